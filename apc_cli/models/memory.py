"""What a device's memory can still give."""

import gc

import psutil
import torch


def release() -> None:
    """Gives the allocator's spare memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> float:
    """What this process may still take of the device's memory."""
    if device.type == "cpu":
        return float(psutil.virtual_memory().available)
    free, total = torch.cuda.mem_get_info(device)
    limit = total * torch.cuda.get_per_process_memory_fraction(device)
    return float(min(free, limit - torch.cuda.memory_reserved(device)))
