"""Types are prepared one at a time: msgspec crashes the process where threads do it at once."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any

import msgspec
import pytest

from chargehand.context import ActionError
from chargehand.decoding import converter, decode, decoder
from chargehand.signature import Signature

#: New types, read first by four threads that change places as often as they can.
_RACE = """
import sys
from functools import partial
from threading import Barrier, Thread

import msgspec

from chargehand.decoding import converter, decode

sys.setswitchinterval(1e-6)
good = []
for _ in range(150):
    inner = msgspec.defstruct("Inner", [(f"x{number}", dict[str, list[int]], {}) for number in range(20)])
    outer = msgspec.defstruct("Outer", [(f"y{number}", inner | None, None) for number in range(10)])
    together = Barrier(4)

    def read(how):
        together.wait()
        good.append(how().y0.x1 == {"a": [1]})

    ways = [partial(decode, b'{"y0": {"x1": {"a": [1]}}}', outer)] * 2
    ways += [lambda: converter(outer)({"y0": {"x1": {"a": [1]}}})] * 2
    threads = [Thread(target=read, args=(how,)) for how in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(len(good), all(good))
"""


def test_threads_read_a_new_type_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _RACE], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "600 True\n", "")


def test_a_decoder_is_made_once() -> None:
    assert decoder(dict[str, int]) is decoder(dict[str, int])
    assert decode(b'{"a": 1}', dict[str, int]) == {"a": 1}
    assert decode("[1]") == [1]
    with pytest.raises(msgspec.ValidationError, match="Expected `int`"):
        decode(b'{"a": "1"}', dict[str, int])


def test_a_converter_takes_types_that_cannot_be_hashed() -> None:
    kind = Annotated[int, msgspec.Meta(ge=1), ["hosts"]]
    with pytest.raises(TypeError, match="unhashable"):
        hash(kind)
    assert converter(kind)(3) == 3
    assert converter(kind)("3", strict=False) == 3
    with pytest.raises(msgspec.ValidationError):
        converter(kind)(0)


class One(msgspec.Struct):
    a: int


class Two(msgspec.Struct):
    b: int


def test_a_parameter_whose_type_nothing_can_be_read_as_is_named() -> None:
    def patch(what: One | Two) -> None: ...

    with pytest.raises(ActionError, match=r"action 'patch', parameter 'what': no value can be read as its type: "):
        _ = Signature("action 'patch'", patch).parameters


def test_values_that_are_read_as_any_type_stay_as_they_are() -> None:
    value: dict[str, Any] = {"a": [1, None]}
    assert converter(Any)(value) == value
