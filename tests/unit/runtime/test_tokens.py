"""`estimate_tokens`, compared with OpenAI's tokenizers.

The reference is the larger count of cl100k_base and o200k_base.
"""

# ruff: noqa: RUF001 - the texts contain letters of other scripts on purpose

from __future__ import annotations

import base64
import hashlib
import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrunner.runtime.tokens import estimate_tokens

_BYTES = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(64))
TEXTS: dict[str, tuple[str, int]] = {
    "English": (
        "When in the course of the evening the lights went out, nobody in the house was surprised; it had happened "
        "before, and the electrician, who lived two streets away, had promised to come on Thursday.",
        42,
    ),
    "code": (
        "async def read(stream, limit=None):\n    async for event in stream:\n        if limit is not None and "
        'len(event.data) > limit:\n            raise ValueError(f"too long: {event.data[:20]!r}")\n'
        "        yield event.type, json.loads(event.data)\n",
        56,
    ),
    "JSON": (
        json.dumps([{"id": n, "name": f"item {n}", "price": n * 1.25, "inStock": n % 2 == 0} for n in range(40)]),
        1121,
    ),
    "base64": (base64.b64encode(_BYTES).decode(), 1967),
    "hex": (_BYTES.hex(), 2320),
    "log lines": (
        "2026-11-21T10:56:49.123Z INFO [worker-7] request_id=8f14e45fceea167a status=200 ms=13.7\n" * 20,
        860,
    ),
    "addresses": ("https://www.example.com/path/to/some-page?id=12345&ref=abcDEF987_xyz#section-2\n" * 20, 520),
    "German": ("Die Straßenverkehrsordnung regelt Geschwindigkeitsbegrenzungen auch für Fußgängerinnen nicht.", 27),
    "Finnish": ("Eduskunta hyväksyi eilen uuden lain, joka koskee ympäristönsuojelua ja kestävää kehitystä.", 39),
    "Turkish": ("Cumhurbaşkanı dün akşam yaptığı açıklamada ekonomik gelişmelerin olumlu olduğunu söyledi.", 37),
    "Russian": ("Правительство вчера объявило о новых мерах поддержки малого бизнеса.", 32),
    "Greek": ("Η κυβέρνηση ανακοίνωσε χθες νέα μέτρα για τη στήριξη των εργαζομένων.", 63),
    "Arabic": ("أعلنت الحكومة أمس عن إجراءات جديدة لدعم الشركات الصغيرة.", 40),
    "Hindi": ("सरकार ने कल छोटे व्यवसायों के समर्थन के लिए नए उपायों की घोषणा की।", 66),
    "Chinese": ("政府昨天宣布了支持小型企业的新措施。企业家将能够获得优惠贷款和补贴以发展生产。", 50),
    "Japanese": ("政府は昨日、中小企業を支援するための新しい措置を発表しました。", 34),
    "Korean": ("정부는 어제 중소기업을 지원하기 위한 새로운 조치를 발표했습니다.", 32),
    "emoji": ("🌍👩‍👩‍👧‍👦🏳️‍🌈🎉🔥🤷🏽‍♀️ 🧿🪬" * 5, 260),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_estimate_is_on_the_high_side(name: str) -> None:
    text, count = TEXTS[name]
    assert count * 0.99 <= estimate_tokens(text) <= count * 2.4


def test_source_code_is_estimated_well() -> None:
    # Code has about 4.3 characters per token.
    source = inspect.getsource(inspect)
    assert len(source) / 4.3 <= estimate_tokens(source) <= len(source) / 2


@given(st.text(), st.text())
def test_a_longer_text_never_has_fewer_tokens(text: str, more: str) -> None:
    assert estimate_tokens("") == 0
    assert (estimate_tokens(text) == 0) == (text == "")
    assert estimate_tokens(text + more) <= estimate_tokens(text) + estimate_tokens(more)
    assert estimate_tokens(text) <= len(text.encode("utf-8", "surrogatepass"))
