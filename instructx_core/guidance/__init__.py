"""Instruction + pixels -> guidance: frame sampling, Qwen2.5-VL preprocessing, prompt, queries, LoRA, encoder."""
