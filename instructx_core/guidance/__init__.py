"""Instruction + pixels -> guidance: frame sampling, Qwen2.5-VL preprocessing, the prompt, queries, LoRA, the encoder."""
