"""Slurm, SkyPilot and Google Cloud: what can be said of their files without a cluster or a cloud."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray._private.parameter import RayParams
from ray.autoscaler._private.util import fill_node_type_min_max_workers, prepare_config, validate_config

from tests.deploy.test_cluster import ROOT, SCHEMA
from tests.deploy.test_cluster_aws import write_tool

SLURM = ROOT / "deploy" / "slurm" / "stage.sbatch"


@pytest.fixture
def gcp() -> Any:
    return yaml.safe_load((ROOT / "deploy" / "gcp" / "cluster.yaml").read_text(encoding="utf-8"))


def test_the_cluster_on_google_cloud_is_valid_for_ray(gcp: dict[str, Any]) -> None:
    jsonschema.validate(gcp, SCHEMA)
    prepared = prepare_config(gcp)
    fill_node_type_min_max_workers(prepared)
    validate_config(prepared)


def test_its_nodes_have_no_public_address_and_accounts_of_their_own(gcp: dict[str, Any]) -> None:
    for name, node in gcp["available_node_types"].items():
        config = node["node_config"]
        assert not any("accessConfigs" in interface for interface in config["networkInterfaces"])
        (account,) = config["serviceAccounts"]
        assert account["email"].startswith("s1ray-head@" if name == "head" else "s1ray-worker@")
        assert {"key": "block-project-ssh-keys", "value": "true"} in config["metadata"]["items"]
        spot = config.get("scheduling", {}).get("provisioningModel") == "SPOT"
        assert spot == (name in {"cpu", "serve_h100"})
    assert "--env=RAY_AUTH_MODE=token" in gcp["docker"]["run_options"]
    assert "--dashboard-host=127.0.0.1" in " ".join(gcp["head_start_ray_commands"])


def test_both_clouds_start_ray_in_the_same_way(gcp: dict[str, Any]) -> None:
    aws = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    for key in ("head_start_ray_commands", "worker_start_ray_commands", "file_mounts", "head_node_type"):
        assert gcp[key] == aws[key]
    assert gcp["docker"]["run_options"] == aws["docker"]["run_options"]


@pytest.mark.parametrize("file", ["cluster.yaml", "deploy/gcp/cluster.yaml"])
def test_the_token_is_its_users_alone_before_ray_starts(file: str) -> None:
    cluster = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        first, *others = cluster[commands]
        assert first == "chmod 600 ~/.ray/auth_token"
        assert any(command.startswith("ray start") for command in others)


def test_ray_has_no_switch_for_its_clients_server() -> None:
    # When this fails: start every head with --ray-client-server-port=0, and say so in docs/security.md.
    with pytest.raises(ValueError, match="ray_client_server_port must be an integer between 1024 and 65535"):
        RayParams(ray_client_server_port=0)


def slurm(folder: Path, *arguments: str, nodes: int = 2, ends: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the batch script with stand-ins for Slurm and Ray; what they were asked is in `folder/log`."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    write_tool(tools / "scontrol", "printf 'n1\\nn2\\n'")
    write_tool(tools / "hostname", "echo '10.0.0.7 fd00::7'")
    write_tool(tools / "s1ray", f'for word in "$@"; do printf "<%s>" "$word"; done >> {folder}/log; exit {ends}')
    ray = (
        'if [ "$1" = get-auth-token ]; then mkdir -p "$HOME/.ray"; echo secret > "$HOME/.ray/auth_token"; '
        'stat -c %a "$HOME/.ray/auth_token" > "$HOME/made"; exit 0; fi\n'
    )
    ray += f'echo "ray $*" >> {folder}/log; while [ "$1" != -- ]; do shift; done; shift; "$@"; exit 0'
    write_tool(tools / "ray", ray)
    write_tool(tools / "srun", 'while [ "${1#--}" != "$1" ]; do shift; done; "$@"')
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder), "SLURM_SUBMIT_DIR": str(folder)}
    environment |= {"SLURM_JOB_ID": "123", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": str(nodes)}
    command = ["bash", str(SLURM), *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_slurm_starts_ray_on_every_node_and_the_stage_on_one(tmp_path: Path) -> None:
    ended = slurm(tmp_path, "train", "--config", "s1-32b", "--set", "output=a b")
    assert ended.returncode == 0, ended.stderr
    log = (tmp_path / "log").read_text()
    assert "ray symmetric-run --address 10.0.0.7:20123 --min-nodes 2" in log
    assert log.endswith("<train><--config><s1-32b><--set><output=a b>")
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "made").read_text() == "600\n", "nobody could read it before that"
    assert not list(tmp_path.glob(".s1ray-*"))


def test_a_token_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    assert slurm(tmp_path, "curate", "--config", "s1", nodes=1).returncode == 0
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() == "secret"


def test_slurm_on_one_node_does_not_wait_for_others(tmp_path: Path) -> None:
    assert slurm(tmp_path, "curate", "--config", "s1", nodes=1).returncode == 0
    assert "--min-nodes" not in (tmp_path / "log").read_text()


def test_a_stage_that_fails_fails_the_slurm_job_although_ray_says_nothing(tmp_path: Path) -> None:
    ended = slurm(tmp_path, "train", "--config", "s1-32b", ends=2)
    assert ended.returncode == 1
    assert "did not end well" in ended.stderr


def test_slurm_without_a_stage_says_what_to_do(tmp_path: Path) -> None:
    ended = slurm(tmp_path)
    assert ended.returncode == 2
    assert "say what to run" in ended.stderr


def test_the_job_for_skypilot_is_whole() -> None:
    task = yaml.safe_load((ROOT / "deploy" / "skypilot" / "train.yaml").read_text(encoding="utf-8"))
    assert task["num_nodes"] == 2
    assert "RAY_AUTH_MODE=token" in task["run"]
    assert "chmod 600 ~/.ray/auth_token" in task["run"].partition("ray start")[0]
    assert task["envs"]["BUCKET"] is None, "SkyPilot asks for what has no value"
    assert "deploy/images/install.sh" in task["setup"]
