import asyncio
import sys

import pytest

from inference.fleet import NoDevices, environment_of, run
from inference.settings import WorkerSettings


def test_each_worker_sees_one_device_and_has_what_only_one_can_have() -> None:
    settings = WorkerSettings(metrics_listen="0.0.0.0:9465", log_file="/var/log/easel/worker.log")

    assert environment_of(2, settings, outer={}) == {
        "CUDA_VISIBLE_DEVICES": "2",
        "EASEL_METRICS_LISTEN": "0.0.0.0:9467",
        "EASEL_LOG_FILE": "/var/log/easel/worker-2.log",
    }


def test_workers_that_share_what_they_count_share_the_endpoint() -> None:
    settings = WorkerSettings(metrics_listen="0.0.0.0:9465")

    environment = environment_of(2, settings, outer={"PROMETHEUS_MULTIPROC_DIR": "/run/easel"})

    assert environment == {"CUDA_VISIBLE_DEVICES": "2"}


@pytest.mark.parametrize("listen", ["", "127.0.0.1:0"])
def test_what_is_off_or_free_stays_so(listen: str) -> None:
    environment = environment_of(1, WorkerSettings(metrics_listen=listen), outer={})

    assert environment == {"CUDA_VISIBLE_DEVICES": "1"}


def test_devices_are_counted_among_those_that_this_process_sees() -> None:
    outer = {"CUDA_VISIBLE_DEVICES": "4, GPU-5f3c"}
    settings = WorkerSettings(metrics_listen="")

    assert environment_of(1, settings, outer=outer)["CUDA_VISIBLE_DEVICES"] == "GPU-5f3c"
    with pytest.raises(NoDevices, match="no device 2 among the 2"):
        environment_of(2, settings, outer=outer)
    with pytest.raises(NoDevices, match="no device 0 among the 0"):
        environment_of(0, settings, outer={"CUDA_VISIBLE_DEVICES": ""})


@pytest.mark.parametrize("devices", ["", "first", "0,", "0;1", "-1", "0,-1"])
async def test_what_names_no_devices_is_refused(devices: str) -> None:
    with pytest.raises(NoDevices, match="neither `all` nor numbers"):
        await run(devices, WorkerSettings())


async def test_a_machine_without_a_gpu_has_no_workers_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.fleet._COUNT", "print(0)")

    with pytest.raises(NoDevices, match="no GPU here"):
        await run("all", WorkerSettings())


async def test_workers_that_were_started_wrongly_end_the_fleet() -> None:
    fleet = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "inference", "--devices", "0,1",
        env={"EASEL_MODEL": "/no/such/folder", "EASEL_METRICS_LISTEN": ""},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async with asyncio.timeout(60):
        _, errors = await fleet.communicate()

    assert fleet.returncode == 2
    assert errors.decode().count("EASEL_MODEL: there is no folder /no/such/folder") == 2
