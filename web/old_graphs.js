// Workflows of older versions, as they are put onto the canvas: InstructX Load Model had the widgets hub_id and download
// (a switch) behind model_name and precision. nodes/old_graphs.py does the same for prompts that are posted.
import { app } from "../../scripts/app.js";

const LOADER = "InstructXLoadModel";
const GONE = ["hub_id", "download"];

function update(node) {
  const values = node.widgets_values;
  if (node.type !== LOADER || !Array.isArray(values) || typeof values[3] !== "boolean") return;
  const hubId = typeof values[2] === "string" ? values[2].trim() : "";
  node.widgets_values = [hubId ? hubId.replaceAll("/", "--") : values[0], values[1]];
  node.inputs = node.inputs?.filter((input) => !GONE.includes(input.name));
}

app.registerExtension({
  name: "InstructX.OldGraphs",
  beforeConfigureGraph(graph) {
    for (const part of [graph, ...(graph?.definitions?.subgraphs ?? [])]) part?.nodes?.forEach(update);
  },
});
