"""What leaves a span and what does not."""

import subprocess
import sys

import pytest
from nats.aio.msg import Msg

from easel import tracing
from easel.bus import trace_of

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def test_without_an_origin_there_is_no_span() -> None:
    for parent in (None, ""):
        with tracing.span("claim", parent=parent, generation_id="g") as span:
            assert not span.get_span_context().is_valid
            assert tracing.current() == ""


def test_a_trace_goes_through_a_process_that_records_none() -> None:
    with tracing.span("claim", parent=PARENT):
        assert tracing.current() == PARENT
    assert tracing.current() == ""


@pytest.mark.parametrize("parent", ["", "nonsense", "00-zz-yy-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_what_is_no_trace_is_none(parent: str) -> None:
    with tracing.span("claim", parent=parent):
        assert tracing.current() == ""
    with tracing.serve("/easel.v1.GenerationService/Generate", {"traceparent": parent}):
        assert tracing.current() == ""


def test_nothing_that_sends_traces_is_imported_without_an_endpoint() -> None:
    ask = (
        "import sys, gateway.bootstrap, inference.bootstrap;"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'sentry_sdk'))])"
    )
    done = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("setting", "module"), [("TRACES_ENDPOINT", "opentelemetry.sdk.trace"), ("SENTRY_DSN", "sentry_sdk")]
)
def test_where_it_is_not_installed_the_setting_is_named(setting: str, module: str) -> None:
    start = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from easel.settings import Misconfigured, Settings\n"
        "try: Settings(_env_file=None).start_exporters(service='gateway')\n"
        "except Misconfigured as error: print(error)"
    )
    environment = {f"EASEL_{setting}": "http://key@127.0.0.1:1/1"}
    done = subprocess.run([sys.executable, "-c", start], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(f"EASEL_{setting}: ")
    assert "pip install 'easel[exporters]'" in done.stdout


@pytest.mark.parametrize("said", ["", "\x00", "00-", "\udce9", "x" * 100_000])
def test_whatever_a_message_says_of_its_trace_nothing_is_raised(said: str) -> None:
    with tracing.span("commit result", parent=trace_of(Msg(None, headers={"traceparent": said}))):  # type: ignore[arg-type]  # none is needed
        pass
