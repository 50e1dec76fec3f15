"""`ray up` with cluster.yaml on AWS as moto plays it: from deploy/aws/prepare.py to the workers that the head starts.

All of it is the code that users run: the stack, Ray's launcher on the user's machine, the config that it writes for the
head, and autoscaler v2's launcher there. Only SSH is cut off: what would be run on nodes is looked at, not run.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import click
import moto
import pytest
import yaml
from ray.autoscaler._private import commands
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws import node_provider
from ray.autoscaler._private.aws import utils as aws_utils

from deploy.aws import prepare
from tests.deploy.test_cluster import ROOT

REGION = "us-west-2"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/s1ray@sha256:{'a' * 64}"
WORKERS = ("cpu", "train_h100", "serve_l40s")


@dataclass
class Call:
    """One call of AWS's API: its IAM action, and what it asked."""

    action: str
    parameters: dict[str, Any]


@dataclass
class Recorder:
    """Calls since the last `take`."""

    calls: list[Call] = field(default_factory=list)

    def __call__(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model.service_name
        self.calls.append(Call(f"{service}:{model.name}", params))

    def take(self) -> list[Call]:
        taken, self.calls = self.calls, []
        return taken


class NoSsh:
    """Stands for the thread that sets up a node by SSH."""

    seen: list[dict[str, Any]] = []  # noqa: RUF012  one list for the test to read
    exitcode = 0

    def __init__(self, **arguments: Any) -> None:
        self.seen.append(arguments)
        mounts = arguments["file_mounts"]
        self.bootstrap = json.loads(Path(mounts["~/ray_bootstrap_config.yaml"]).read_text(encoding="utf-8"))
        arguments["bootstrap"] = self.bootstrap

    def start(self) -> None:
        """No thread."""

    def join(self) -> None:
        """No thread."""


@dataclass
class Launched:
    """What became of one `ray up`, and of the head's launcher behind it."""

    cluster: dict[str, Any]
    head: dict[str, Any]
    bootstrap: dict[str, Any]
    updater: dict[str, Any]
    instances: dict[str, list[dict[str, Any]]]
    asked_by_head: list[Call]
    errors: list[Any]
    policy: list[dict[str, Any]]
    terminated: set[str]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {"HOME": str(home), "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
            patch.setenv(key, value)
        patch.setenv("RAY_UP_enable_autoscaler_v2", "1")
        patch.setattr(commands, "NodeUpdaterThread", NoSsh)
        patch.setattr(node_provider, "list_ec2_instances", types_of_cluster_yaml)
        patch.setattr(NoSsh, "seen", [])
        token = home / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text("0" * 64)
        with moto.mock_aws():
            for cache in (aws_utils.resource_cache, aws_utils.client_cache, aws_config._get_subnets_or_die):
                cache.cache_clear()
            recorder = Recorder()
            boto3.setup_default_session()
            boto3.DEFAULT_SESSION.events.register("provide-client-params.*.*", recorder)
            yield launch(home, recorder, patch)
            for cache in (aws_utils.resource_cache, aws_utils.client_cache, aws_config._get_subnets_or_die):
                cache.cache_clear()


def launch(home: Path, recorder: Recorder, patch: pytest.MonkeyPatch) -> Launched:
    """prepare.py, `ray up`, and a worker of each type started and stopped as the head does."""
    file = home / "cluster.yaml"
    file.write_text(prepared(patch))
    cluster = yaml.safe_load(file.read_text())
    commands.create_or_update_cluster(
        str(file), None, None, no_restart=False, restart_only=False, yes=True, override_cluster_name=None,
        no_config_cache=True, redirect_command_output=None, use_login_shells=True,
    )  # fmt: skip
    ec2 = boto3.client("ec2", REGION)
    (head,) = nodes(ec2, "head")
    (updater,) = NoSsh.seen
    recorder.take()
    errors, terminated = as_head(home, updater["bootstrap"])
    asked = recorder.take()
    instances = {name: nodes(ec2, name, states=("terminated", "running")) for name in WORKERS}
    role = boto3.client("iam").get_role_policy(RoleName="s1ray-head", PolicyName="launch")
    document = role["PolicyDocument"]
    # moto's CloudFormation keeps a policy as Python writes it.
    statements = (ast.literal_eval(document) if isinstance(document, str) else document)["Statement"]
    return Launched(cluster, head, updater["bootstrap"], updater, instances, asked, errors, statements, terminated)


def prepared(patch: pytest.MonkeyPatch) -> str:
    """cluster.yaml as prepare.py prints it."""
    boto3.client("s3", REGION).create_bucket(
        Bucket="runs", CreateBucketConfiguration={"LocationConstraint": REGION}
    )  # fmt: skip
    arguments = ["--ssh-cidr", "203.0.113.7/32", "--bucket", "runs", "--image", IMAGE]
    patch.setattr(sys, "argv", ["prepare.py", *arguments])
    # moto has parameters of this folder only; DLAMIs are in another.
    patch.setattr(prepare, "AMI", "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64")
    printed: list[str] = []
    patch.setattr(prepare, "print", lambda text, end: printed.append(text), raising=False)
    prepare.main()
    prepare.main()
    assert printed[0] == printed[1]
    complete_stack(yaml.safe_load(printed[0]))
    return printed[0]


def complete_stack(cluster: dict[str, Any]) -> None:
    """What moto's CloudFormation leaves out of stack.yaml; besides, moto knows no placement groups."""
    ec2 = boto3.client("ec2", REGION)
    for subnet in {card["SubnetId"] for card in cards(cluster)}:
        ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})


def cards(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The network interfaces of all node types."""
    configs = [node["node_config"] for node in cluster["available_node_types"].values()]
    return [card for config in configs for card in config["NetworkInterfaces"]]


def types_of_cluster_yaml(region: str, _: Any = None) -> list[dict[str, Any]]:
    """Stands for Ray's list of all instance types, which takes moto half a minute: the same answers, of ours alone."""
    ec2 = boto3.client("ec2", region)
    answer: list[dict[str, Any]] = ec2.describe_instance_types(InstanceTypes=["m7i.2xlarge", *prepare.worker_types()])[
        "InstanceTypes"
    ]
    return answer


def nodes(ec2: Any, node_type: str, states: tuple[str, ...] = ("running",)) -> list[dict[str, Any]]:
    """Instances of a node type."""
    filters = [
        {"Name": "tag:ray-user-node-type", "Values": [node_type]},
        {"Name": "instance-state-name", "Values": list(states)},
    ]
    found = ec2.describe_instances(Filters=filters)["Reservations"]
    return [instance for reservation in found for instance in reservation["Instances"]]


def as_head(home: Path, bootstrap: dict[str, Any]) -> tuple[list[Any], set[str]]:
    """What autoscaler v2 does on the head with its bootstrap config: look, start, tag, stop."""
    from ray.autoscaler._private.providers import _get_node_provider
    from ray.autoscaler.v2.instance_manager.config import FileConfigReader
    from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter

    file = home / "ray_bootstrap_config.yaml"
    file.write_text(json.dumps(bootstrap))
    (home / "ray_bootstrap_key.pem").write_text("the key, which file_mounts bring to the head")
    reader = FileConfigReader(str(file))
    config = reader.get_cached_autoscaling_config()
    v1 = _get_node_provider(config.get_provider_config(), config.get_config("cluster_name"))
    adapter = NodeProviderAdapter(v1, reader)
    before = set(adapter.get_non_terminated())
    # One of each: Ray asks for at least one of many, and moto gives no more than that.
    adapter.launch(dict.fromkeys(WORKERS, 1), "request")
    errors: list[Any] = []
    for _ in range(100):
        errors += adapter.poll_errors()
        if len(started := set(adapter.get_non_terminated()) - before) == len(WORKERS) or errors:
            break
        time.sleep(0.1)
    if not errors:
        v1.set_node_tags(min(started), {"ray-node-status": "up-to-date"})
        adapter.terminate(sorted(started), "request")
        for _ in range(100):
            if not set(adapter.get_non_terminated()) & started:
                break
            time.sleep(0.1)
    return errors + adapter.poll_errors(), started - set(adapter.get_non_terminated())


def test_a_head_and_workers_of_every_type_start_and_stop(launched: Launched) -> None:
    assert not launched.errors
    assert {name: len(found) for name, found in launched.instances.items()} == dict.fromkeys(WORKERS, 1)
    assert len(launched.terminated) == len(WORKERS)


def test_the_heads_role_allows_all_that_its_launcher_asks_and_nothing_else(launched: Launched) -> None:
    calls = [call for call in launched.asked_by_head if not call.action.startswith(("iam:", "s3:"))]
    asked = {call.action for call in calls} | {"iam:PassRole"}
    assert asked >= {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags"}
    allowed = {action for statement in launched.policy for action in as_list(statement["Action"])}
    assert asked == allowed
    assert not any("*" in action for action in allowed)


def test_the_role_allows_each_request_with_its_conditions(launched: Launched) -> None:
    for call in launched.asked_by_head:
        for resource, context in resources(call):
            assert allows(launched.policy, call.action, resource, context), (call.action, resource, context)
    run = next(call for call in launched.asked_by_head if call.action == "ec2:RunInstances")
    changes: tuple[dict[str, Any], ...] = (
        {"InstanceType": "p4d.24xlarge"},
        {"MetadataOptions": {"HttpTokens": "optional"}},
        {"IamInstanceProfile": {"Name": "s1ray-head"}},
        {"TagSpecifications": []},
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "Encrypted": False}}]},
        {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-other", "Groups": ["sg-other"]}]},
    )
    for change in changes:
        other = Call(run.action, run.parameters | change)
        answers = [allows(launched.policy, run.action, resource, context) for resource, context in resources(other)]
        assert not all(answers), change
    foreign = {"aws:ResourceTag/ray-cluster-name": "other"}
    arn = f"arn:aws:ec2:{REGION}:123456789012:instance/i-1"
    assert not allows(launched.policy, "ec2:TerminateInstances", arn, foreign)
    assert not allows(launched.policy, "ec2:CreateTags", arn, foreign)


def test_every_node_is_as_cluster_yaml_promises(launched: Launched) -> None:
    ec2 = boto3.client("ec2", REGION)
    workers = [instance for found in launched.instances.values() for instance in found]
    for instance in [launched.head, *workers]:
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        data = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
        assert base64.b64decode(data["UserData"]["Value"]).startswith(b"#!/bin/bash\n")
    (volume,) = ec2.describe_volumes(VolumeIds=[launched.head["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"]
    assert volume["Encrypted"]
    assert launched.head["IamInstanceProfile"]["Arn"].endswith("/s1ray-head")
    for call in launched.asked_by_head:
        if call.action == "ec2:RunInstances":
            assert call.parameters["IamInstanceProfile"] == {"Name": "s1ray-worker"}
            spot = call.parameters.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
            assert spot == (call.parameters["InstanceType"] != "p5.48xlarge")
            assert all(disk["Ebs"]["Encrypted"] for disk in call.parameters["BlockDeviceMappings"])
            assert not any(card.get("AssociatePublicIpAddress") for card in call.parameters["NetworkInterfaces"])


def test_training_nodes_have_efa_on_every_card_side_by_side(launched: Launched) -> None:
    run = next(
        call.parameters
        for call in launched.asked_by_head
        if call.action == "ec2:RunInstances" and call.parameters["InstanceType"] == "p5.48xlarge"
    )
    cards = run["NetworkInterfaces"]
    assert [card["NetworkCardIndex"] for card in cards] == list(range(32))
    assert [card["DeviceIndex"] for card in cards] == [0] + [1] * 31
    assert {card["InterfaceType"] for card in cards} == {"efa", "efa-only"}
    assert run["Placement"]["GroupName"] == launched.cluster["cluster_name"]
    assert "GroupName: !Ref ClusterName, Strategy: cluster" in prepare.STACK.read_text(encoding="utf-8")


def test_nothing_but_ssh_from_the_users_addresses_comes_in(launched: Launched) -> None:
    ec2 = boto3.client("ec2", REGION)
    groups = {group["GroupId"]: group for group in ec2.describe_security_groups()["SecurityGroups"]}
    used = {group["GroupId"] for card in launched.head["NetworkInterfaces"] for group in card["Groups"]}
    inwards = [(group, rule) for group in used for rule in groups[group]["IpPermissions"]]
    networks = [(rule["FromPort"], ip["CidrIp"]) for _, rule in inwards for ip in rule["IpRanges"]]
    assert networks == [(22, "203.0.113.7/32")]
    assert all(pair["GroupId"] in used for _, rule in inwards for pair in rule["UserIdGroupPairs"])
    assert not any(rule["Ipv6Ranges"] for _, rule in inwards)
    # Ray makes a group of its own, open to SSH from everywhere, where a node type has none.
    assert not any(group["GroupName"].startswith("ray-autoscaler") for group in groups.values())
    roles = {role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"]}
    assert "ray-autoscaler-v1" not in roles


def test_the_token_and_one_image_by_digest_reach_every_node(launched: Launched) -> None:
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    config = AutoscalingConfig(launched.bootstrap, skip_content_hash=True)
    for name in ("head", *WORKERS):
        docker = config.get_docker_config(name)
        assert docker["image"] == IMAGE
        assert "--env=RAY_AUTH_MODE=token" in docker["run_options"]
    assert launched.updater["docker_config"]["image"] == IMAGE
    for mounts in (launched.updater["file_mounts"], launched.bootstrap["file_mounts"]):
        assert mounts["~/.ray/auth_token"].endswith(".ray/auth_token")
    start = " ".join(launched.updater["ray_start_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_enable_autoscaler_v2=1" in start
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert not launched.bootstrap[key], "packages come with the image, not with the start of a node"
    assert not launched.updater["setup_commands"]
    assert any("ecr get-login-password" in command for command in launched.bootstrap["initialization_commands"])


def test_the_file_as_shipped_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(node_provider, "list_ec2_instances", types_of_cluster_yaml)
    with moto.mock_aws():
        aws_utils.resource_cache.cache_clear()
        aws_config._get_subnets_or_die.cache_clear()
        ec2 = boto3.client("ec2", REGION)
        before = len(ec2.describe_instances()["Reservations"]), len(ec2.describe_security_groups()["SecurityGroups"])
        with pytest.raises((AssertionError, click.ClickException)):
            commands.create_or_update_cluster(
                str(ROOT / "cluster.yaml"), None, None, no_restart=False, restart_only=False, yes=True,
                override_cluster_name=None, no_config_cache=True, redirect_command_output=None, use_login_shells=True,
            )  # fmt: skip
        after = len(ec2.describe_instances()["Reservations"]), len(ec2.describe_security_groups()["SecurityGroups"])
        assert after == before
        aws_utils.resource_cache.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--ssh-cidr", "0.0.0.0/0"], "opens SSH to the Internet"),
        (["--ssh-cidr", "203.0.113.7/24"], "has host bits set"),
        (["--ssh-cidr", "::/0"], "write one such as"),
        (["--image", "s1ray:latest"], "has no digest"),
        (["--image", "s1ray@sha256:abc"], "has no digest"),
        (["--bucket", "s3://runs/x"], "without s3://"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_made(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"--ssh-cidr": "203.0.113.7/32", "--bucket": "runs", "--image": IMAGE}
    good[arguments[0]] = arguments[1]
    options = [part for pair in good.items() for part in pair]
    monkeypatch.setattr(sys, "argv", ["prepare.py", *options])
    with pytest.raises(SystemExit) as ended:
        prepare.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_hosts_script_prepares_what_the_container_mounts(tmp_path: Path) -> None:
    """Run with stand-ins for what needs a host: two disks of its own, no file system from the image."""
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    script = cluster["available_node_types"]["cpu"]["node_config"]["UserData"]
    local, log, tools = tmp_path / "local", tmp_path / "log", tmp_path / "bin"
    tools.mkdir()
    disks = "/dev/nvme0n1 Amazon Elastic Block Store\n/dev/nvme1n1 Amazon EC2 NVMe Instance Storage\n"
    disks += "/dev/nvme2n1 Amazon EC2 NVMe Instance Storage\n"
    for name in ("usermod", "systemctl", "mdadm", "mkfs.ext4", "mount", "chown"):
        write_tool(tools / name, f'echo "{name} $*" >> {log}')
    write_tool(tools / "mountpoint", "exit 1")
    write_tool(tools / "lsblk", f"cat <<'END'\n{disks}END")
    environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", script.replace("/mnt/local", str(local))], env=environment, check=True)
    did = log.read_text()
    assert "mdadm --create /dev/md0 --level=0 --raid-devices=2 /dev/nvme1n1 /dev/nvme2n1" in did
    assert f"mount /dev/md0 {local}" in did
    assert (local / "spill").is_dir()
    assert (local / "huggingface").is_dir()


def write_tool(file: Path, text: str) -> None:
    """An executable for PATH."""
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def as_list(value: Any) -> list[Any]:
    """A policy's value, which may be one or several."""
    return value if isinstance(value, list) else [value]


def allows(policy: list[dict[str, Any]], action: str, resource: str, context: dict[str, str]) -> bool:
    """Whether a statement allows an action on a resource, as IAM decides where nothing is denied."""
    return any(
        action in as_list(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))
        and all(
            context.get(key) in [str(value) for value in as_list(values)]
            for test in statement.get("Condition", {}).values()
            for key, values in test.items()
        )
        for statement in policy
    )


def resources(call: Call) -> list[tuple[str, dict[str, str]]]:
    """The resources that AWS checks for a call, each with its condition keys."""
    arn = f"arn:aws:ec2:{REGION}:123456789012"
    parameters = call.parameters
    if call.action == "ec2:RunInstances":
        return resources_of_a_start(parameters, arn)
    ours = {"aws:ResourceTag/ray-cluster-name": "s1ray"}
    if call.action == "ec2:TerminateInstances":
        return [(f"{arn}:instance/{one}", ours) for one in parameters["InstanceIds"]]
    if call.action == "ec2:CreateTags":
        return [(f"{arn}:instance/{one}", ours) for one in parameters["Resources"]]
    return [("*", {})]


def resources_of_a_start(parameters: dict[str, Any], arn: str) -> list[tuple[str, dict[str, str]]]:
    """RunInstances: the instance and all that it starts with, as AWS's service authorization reference lists them."""
    tags = {tag["Key"]: tag["Value"] for spec in parameters["TagSpecifications"] for tag in spec["Tags"]}
    instance = {f"aws:RequestTag/{key}": value for key, value in tags.items()} | {
        "ec2:MetadataHttpTokens": parameters["MetadataOptions"]["HttpTokens"],
        "ec2:InstanceProfile": f"arn:aws:iam::123456789012:instance-profile/{parameters['IamInstanceProfile']['Name']}",
        "ec2:InstanceType": parameters["InstanceType"],
    }
    asked = [(f"{arn}:instance/*", instance), (f"{arn}:network-interface/*", {})]
    for card in parameters["NetworkInterfaces"]:
        asked.append((f"{arn}:subnet/{card['SubnetId']}", {}))
        asked += [(f"{arn}:security-group/{group}", {}) for group in card["Groups"]]
    asked.append((f"arn:aws:ec2:{REGION}::image/{parameters['ImageId']}", {}))
    asked.append((f"{arn}:key-pair/{parameters['KeyName']}", {}))
    for disk in parameters["BlockDeviceMappings"]:
        asked.append((f"{arn}:volume/*", {"ec2:Encrypted": str(disk["Ebs"]["Encrypted"]).lower()}))
    if "Placement" in parameters:
        asked.append((f"{arn}:placement-group/{parameters['Placement']['GroupName']}", {}))
    return asked
