"""Signed notes and checkpoints against published examples, and everything that is not one refused."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.checkpoint import (
    NOTE_LIMIT,
    Checkpoint,
    NoteError,
    SignatureType,
    Signer,
    UntrustedNote,
    VerifierKey,
    cosign,
    parse,
    sign,
    verify,
)
from tests.unit.audit.making import KEY, ORIGIN, OTHER_KEY

# golang.org/x/mod/sumdb/note, the format's first implementation: its documented key pair and note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
# Keys of other implementations; the third holds a '+' in its base64, the fourth is a cosigner's.
PUBLISHED_KEYS = [
    GO_KEY,
    "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
    "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
]
# The examples of c2sp.org/tlog-cosignature.
SPEC_CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

CHECKPOINT = Checkpoint(ORIGIN, 5, bytes(range(32)))
WITNESS = Signer.of("partner.example/witness", Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34))), SignatureType.COSIGNATURE)
NOTE = sign(CHECKPOINT, KEY)


def test_the_reference_implementations_note_is_reproduced_byte_for_byte() -> None:
    signer = Signer.of("PeterNeumann", Ed25519PrivateKey.from_private_bytes(GO_SEED))
    assert str(signer.verifier) == GO_KEY
    assert signer.line(GO_TEXT) == GO_LINE
    assert VerifierKey.parse(GO_KEY).vouches(GO_TEXT, base64.b64decode(GO_LINE.split(" ")[2])[4:])


@pytest.mark.parametrize("text", PUBLISHED_KEYS)
def test_published_verifier_keys_read_and_write_back(text: str) -> None:
    assert str(VerifierKey.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        GO_KEY.replace("c74f", "C74F"),
        GO_KEY.replace("c74f", "c74e"),
        GO_KEY + "\n",
        GO_KEY.replace("10TW", "10TX"),
        "Peter Neumann" + GO_KEY[12:],
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # longer, its key id right
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # unknown type, its key id right
        GO_KEY[:-1] + "\u00e9",
    ],
    ids=lambda text: f"{len(text)}",
)
def test_mangled_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


def test_the_specifications_example_is_read() -> None:
    signed = parse(SPEC_CHECKPOINT)
    assert signed.checkpoint.origin == "example.com/behind-the-sofa"
    assert signed.checkpoint.size == 20852163
    assert base64.b64encode(signed.checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert [s.name for s in signed.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert int.from_bytes(signed.signatures[1].signature[:8], "big") == 1679315147
    assert signed.checkpoint.text + "\n" == SPEC_CHECKPOINT[: SPEC_CHECKPOINT.index("\u2014")]


def test_a_checkpoint_round_trips() -> None:
    signed = parse(NOTE)
    assert signed.checkpoint == CHECKPOINT
    assert verify(signed, [KEY.verifier, OTHER_KEY.verifier]) == (KEY.verifier,)


def test_a_partner_can_cosign_and_both_are_verified() -> None:
    signed = parse(cosign(NOTE, WITNESS, 1_700_000_000))
    assert verify(signed, [KEY.verifier, WITNESS.verifier]) == (KEY.verifier, WITNESS.verifier)
    assert verify(signed, [WITNESS.verifier]) == (WITNESS.verifier,)
    assert verify(signed, [KEY.verifier]) == (KEY.verifier,)


def test_a_cosignature_binds_its_time() -> None:
    line = WITNESS.line(CHECKPOINT.text, 1_700_000_000)
    raw = base64.b64decode(line.split(" ")[2])
    shifted = raw[:4] + (1_700_000_001).to_bytes(8, "big") + raw[12:]
    assert WITNESS.verifier.vouches(CHECKPOINT.text, raw[4:])
    assert not WITNESS.verifier.vouches(CHECKPOINT.text, shifted[4:])


def test_a_cosignature_from_beyond_the_end_of_time_is_refused() -> None:
    at = 1 << 63
    signature = WITNESS._private.sign(f"cosignature/v1\ntime {at}\n{CHECKPOINT.text}".encode())
    assert not WITNESS.verifier.vouches(CHECKPOINT.text, at.to_bytes(8, "big") + signature)
    with pytest.raises(NoteError, match="time"):
        WITNESS.line(CHECKPOINT.text, at)


def test_a_cosignature_is_not_taken_for_a_signature() -> None:
    plain = VerifierKey(WITNESS.verifier.name, SignatureType.ED25519, WITNESS.verifier.public)
    assert plain.key_id != WITNESS.verifier.key_id
    with pytest.raises(UntrustedNote):
        verify(parse(cosign(NOTE, WITNESS, 1)), [plain])


def test_nobodys_signature_is_not_trusted() -> None:
    with pytest.raises(UntrustedNote, match="no known key"):
        verify(parse(NOTE), [OTHER_KEY.verifier])
    with pytest.raises(UntrustedNote, match="no known key"):
        verify(parse(NOTE), [])


def test_one_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    bad = WITNESS.line(CHECKPOINT.text, 7).split(" ")[2]
    raw = bytearray(base64.b64decode(bad))
    raw[-1] ^= 1
    note = NOTE + f"\u2014 {WITNESS.verifier.name} {base64.b64encode(raw).decode()}\n"
    with pytest.raises(UntrustedNote, match="is wrong"):
        verify(parse(note), [KEY.verifier, WITNESS.verifier])
    assert verify(parse(note), [KEY.verifier]) == (KEY.verifier,)


def test_sixteen_signatures_and_more_are_read() -> None:
    others = [Signer.of(f"w{i}", Ed25519PrivateKey.generate()) for i in range(20)]
    note = NOTE + "".join(other.line(CHECKPOINT.text) for other in others)
    assert len(verify(parse(note), [KEY.verifier, *(other.verifier for other in others)])) == 21


@given(st.integers(0, len(NOTE.encode()) * 8 - 1))
def test_any_flipped_bit_of_a_note_is_noticed(bit: int) -> None:
    raw = bytearray(NOTE.encode())
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((NoteError, UnicodeDecodeError)):
        verify(parse(raw.decode()), [KEY.verifier])


def _with_text(text: str) -> str:
    return f"{text}\n{KEY.line(text)}"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        CHECKPOINT.text,
        CHECKPOINT.text + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("\u2014", "-"),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\n\u2014", "\r\n\u2014"),
        NOTE + "\u2014 a+b AAAAAAAA\n",
        NOTE + "\u2014 a\u2003b AAAAAAAA\n",
        NOTE + "\u2014 ab AAAA\n",
        NOTE + "\u2014 ab AAAAAAB=\n",
        NOTE + "x" * NOTE_LIMIT,
        _with_text(f"{ORIGIN}\n5\n"),
        _with_text(f"{ORIGIN}\n05\n{CHECKPOINT.text.splitlines()[2]}\n"),
        _with_text(f"{ORIGIN}\n-5\n{CHECKPOINT.text.splitlines()[2]}\n"),
        _with_text(f"{ORIGIN}\n\u0665\n{CHECKPOINT.text.splitlines()[2]}\n"),
        _with_text(f"{ORIGIN}\n5\nAAAA\n"),
        _with_text(f"\n5\n{CHECKPOINT.text.splitlines()[2]}\n"),
        _with_text(CHECKPOINT.text + "\nextension after an empty line\n"),
        _with_text(CHECKPOINT.text + "tab\tline\n"),
    ],
    ids=range(22),
)
def test_what_is_not_a_checkpoint_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        parse(note)


def test_extension_lines_are_read_and_covered_by_the_signature() -> None:
    signed = parse(_with_text(CHECKPOINT.text + "extension\n"))
    assert signed.checkpoint.extensions == ("extension",)
    assert verify(signed, [KEY.verifier])


def test_only_the_logs_own_key_signs_for_it() -> None:
    with pytest.raises(NoteError, match="named after"):
        sign(Checkpoint("other.example/log", 0, bytes(32)), KEY)
    with pytest.raises(NoteError, match="named after"):
        sign(Checkpoint(WITNESS.verifier.name, 0, bytes(32)), WITNESS)
    with pytest.raises(NoteError, match="would sign"):
        sign(Checkpoint(ORIGIN, 0, bytes(32), ("extension",)), KEY)
    with pytest.raises(NoteError, match="time"):
        WITNESS.line(CHECKPOINT.text)


def test_keys_come_from_pem_and_are_not_shown() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signer = Signer.from_pem(ORIGIN, pem)
    assert sign(CHECKPOINT, signer) == NOTE
    assert repr(signer) == "Signer()"
    wrong = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for bad in (wrong, b"not a key"):
        with pytest.raises(NoteError):
            Signer.from_pem(ORIGIN, bad)
    for name in ("", "a b", "a+b", "\u00e9"):
        with pytest.raises(NoteError, match="key name"):
            Signer.of(name, private)
