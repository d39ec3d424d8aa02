// Updates workflows of older versions when they are loaded: InstructX Load Model had the widgets hub_id and download
// (a switch) after model_name and precision; InstructX MLLM Guidance had two more reference sockets, which are now part of
// a growing input. nodes/old_graphs.py does the same for prompts that are posted.
import { app } from "../../scripts/app.js";

const LOADER = "InstructXLoadModel";
const GONE = ["hub_id", "download"];
const GUIDANCE = "InstructXMLLMGuidance";
const GROWN = ["reference_2", "reference_3"];

function update(node) {
  if (node.type === GUIDANCE) grow(node);
  const values = node.widgets_values;
  if (node.type !== LOADER || !Array.isArray(values) || typeof values[3] !== "boolean") return;
  const hubId = typeof values[2] === "string" ? values[2].trim() : "";
  node.widgets_values = [hubId ? hubId.replaceAll("/", "--") : values[0], values[1]];
  node.inputs = node.inputs?.filter((input) => !GONE.includes(input.name));
}

function grow(node) {
  for (const input of node.inputs ?? []) if (GROWN.includes(input.name)) input.name = `further.${input.name}`;
}

app.registerExtension({
  name: "InstructX.OldGraphs",
  beforeConfigureGraph(graph) {
    for (const part of [graph, ...(graph?.definitions?.subgraphs ?? [])]) part?.nodes?.forEach(update);
  },
});
