"""Checks an Antiphon dump with aics-tlog, which knows nothing of Antiphon.

Takes the path of a JSON file: directory of the dump, verifier keys of log and members, quorum, an older checkpoint,
blocks and proofs to check. Prints "ok" and what was counted; any failure is an exception.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import aics_tlog as t

task = json.loads(Path(sys.argv[1]).read_text())
dump = Path(task["dump"])
log_key = t.parse_vkey(task["log"])
members = [t.parse_vkey(text) for text in task["members"]]
unhex = bytes.fromhex


def checkpoint(note):
    """The checkpoint of a note that the log has signed and a quorum has cosigned."""
    result = t.verify_checkpoint(
        t.parse_note(note), log_key, members, task["quorum"], expected_origin=log_key.name
    )
    if not result.ok:
        raise ValueError(result.error)
    return result


def check(directory):
    """Everything about the dump in a directory."""
    head = checkpoint((directory / "checkpoint").read_bytes())
    reader = t.FileSystemTileReader(directory)
    if t.tree_root_from_tiles(reader, head.size) != head.root:
        raise ValueError("the tiles give another root")
    audit = t.audit_tiles(reader, head.size, head.root)
    verified = t.VerifiedTileReader(reader, head.size, head.root)
    for block in task["blocks"]:
        index, entry = block["index"], unhex(block["bytes"])
        if verified.entry(index) != entry:
            raise ValueError(f"entry {index} is another one")
        ours = [unhex(text) for text in block["proof"]]
        if t.inclusion_proof_from_tiles(reader, index, head.size) != ours:
            raise ValueError(f"the proofs of {index} differ")
        if not t.verify_leaf_inclusion(entry, index, head.size, ours, head.root):
            raise ValueError(f"the proof of {index} does not hold")
    old = checkpoint(task["old"].encode())
    steps = [unhex(text) for text in task["consistency"]]
    if t.consistency_proof_from_tiles(reader, old.size, head.size) != steps:
        raise ValueError("the consistency proofs differ")
    if not t.verify_consistency(old.size, head.size, old.root, head.root, steps):
        raise ValueError("the consistency proof does not hold")
    return audit


audit = check(dump)
assert len(members) >= task["quorum"] > len(members) * 2 // 3

# One bit of any file that a verifier reads, and it is refused.
refused = 0
for name in task["damage"]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "dump"
        shutil.copytree(dump, copy)
        good = (copy / name).read_bytes()
        for at in (0, len(good) // 3, len(good) // 2, len(good) - 1):
            bad = bytearray(good)
            bad[at] ^= 1
            (copy / name).write_bytes(bytes(bad))
            try:
                check(copy)
            except Exception:
                refused += 1
            else:
                raise SystemExit(f"{name}: a changed bit in byte {at} was not noticed")
# A quorum is a quorum.
text = (dump / "checkpoint").read_text().splitlines(keepends=True)
for fewer in (text[:-2], [line for line in text if not line.startswith("\u2014 " + log_key.name)]):
    try:
        checkpoint("".join(fewer))
    except ValueError:
        refused += 1
    else:
        raise SystemExit("a checkpoint with too few signatures was taken")
print(f"ok: {audit.size} blocks, {audit.tiles} tiles, {audit.bundles} bundles, {refused} changes refused")
