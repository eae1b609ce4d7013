"""Pictures that are found by their captions: the words are searched, the bytes come along.

Run it with ``python examples/captions.py``; it keeps nothing.
"""

import tempfile
from pathlib import Path

import numpy as np

from agentmem import Memory

rng = np.random.default_rng(0)
PICTURES = {
    "beach.ppm": ("Ana on the beach at Cascais, in the evening", rng.integers(0, 256, (90, 120, 3), np.uint8)),
    "tram.ppm": ("The yellow tram in front of the cathedral", rng.integers(0, 256, (90, 120, 3), np.uint8)),
    "cat.ppm": ("The neighbour's cat asleep on the piano", rng.integers(0, 256, (90, 120, 3), np.uint8)),
}


def as_ppm(picture: np.ndarray) -> bytes:
    """A picture as a file that any viewer opens."""
    height, width, _ = picture.shape
    return b"P6 %d %d 255\n" % (width, height) + picture.tobytes()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "store") as memory:
        for name, (caption, picture) in PICTURES.items():
            memory.values.put(name, as_ppm(picture), user_id="ana", metadata={"type": "image/x-portable-pixmap"})
            memory.values.put(f"{name}/pixels", picture, user_id="ana")
            shown = memory.add(caption, user_id="ana", kind="picture")
            memory.values.attach(shown.id, name, f"{name}/pixels")

        [hit] = memory.search("sleeping cat", user_id="ana", kinds=["picture"], limit=1)
        file, pixels = memory.values.attachments(hit.id)
        print(hit.content)
        print(f"  {file.key}: {file.size:,} bytes, {file.metadata['type']}; pixels {pixels.shape} of {pixels.dtype}")

        # A strip of it, without reading the rest.
        strip = memory.values.get(pixels.key, user_id="ana", start=40, end=50)
        print(f"  rows 40 to 50: {strip.shape}, mean {strip.mean():.0f}")
        (Path(folder) / "cat.ppm").write_bytes(memory.values.get(file.key, user_id="ana"))

        # Who takes the memory back takes the picture with it.
        print(f"  erased: {memory.erase(hit.id).erased} records, left: {len(memory.values.list(user_id='ana'))} values")


if __name__ == "__main__":
    main()
