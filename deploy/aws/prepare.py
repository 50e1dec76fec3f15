r"""Make what a cluster needs on AWS (stack.yaml), and print cluster.yaml with the ids filled in.

    python deploy/aws/prepare.py --ssh-cidr 203.0.113.7/32 --bucket my-runs --zone us-west-2a \
        --image 123456789012.dkr.ecr.us-west-2.amazonaws.com/s1ray@sha256:... > my-cluster.yaml

Needs boto3, and credentials that may make roles and networks. A second call updates the stack; with
`--ami` its output is the same next month. Exits with 2 and one sentence where an argument is wrong.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import BotoCoreError, ClientError

ROOT = Path(__file__).resolve().parents[2]
STACK = Path(__file__).with_name("stack.yaml")
AMI = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""The name under which AWS publishes the id of its current Ubuntu image with NVIDIA's driver, Docker and EFA."""
LARGEST = 8
"""The widest network that may reach SSH: fewer bits are half the Internet and more."""
ECR = re.compile(r"^\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/(?P<name>.+)@")


def main() -> None:
    """Check the arguments, make or update the stack, print the cluster."""
    arguments = parse()
    session = boto3.Session(region_name=arguments.region)
    try:
        ami = arguments.ami or session.client("ssm").get_parameter(Name=AMI)["Parameter"]["Value"]
        outputs = deploy(session.client("cloudformation"), arguments)
        allow_spot(session.client("iam"))
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"AWS refused: {error}")
    print(fill(arguments, ami, outputs), end="")


def parse() -> argparse.Namespace:
    """The arguments, each checked by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ssh-cidr", required=True, type=cidr, help="who may reach the head by SSH")
    parser.add_argument("--bucket", required=True, type=bucket, help="an existing bucket, for runs")
    parser.add_argument("--image", required=True, type=image, help="the image of deploy/images, by digest")
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--zone", help="the availability zone; default: the region's a")
    parser.add_argument("--name", default="s1ray", help="of the cluster and the stack")
    parser.add_argument("--ami", help="of the hosts; default: AWS's current one, as of now")
    arguments = parser.parse_args()
    arguments.zone = arguments.zone or arguments.region + "a"
    return arguments


def cidr(text: str) -> str:
    """An IPv4 network that is not the whole Internet."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; write one such as 203.0.113.7/32") from None
    if network.prefixlen < LARGEST:
        raise argparse.ArgumentTypeError(f"{text} opens SSH to the Internet; name your own addresses")
    return str(network)


def bucket(text: str) -> str:
    """The name of a bucket, without s3://."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no bucket's name; write it without s3:// and folders")
    return text


def image(text: str) -> str:
    """An image by digest: a tag may be another image tomorrow."""
    if not re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} has no digest; write NAME@sha256:... (docker inspect prints it)")
    return text


def deploy(cloudformation: Any, arguments: argparse.Namespace) -> dict[str, str]:
    """The outputs of the stack, made or brought up to date."""
    repository = ECR.match(arguments.image)
    parameters = {
        "ClusterName": arguments.name,
        "SshCidr": arguments.ssh_cidr,
        "Bucket": arguments.bucket,
        "InstanceTypes": ",".join(worker_types()),
        "Zone": arguments.zone,
        "Repository": repository["name"] if repository else "",
    }
    request = {
        "StackName": arguments.name,
        "TemplateBody": STACK.read_text(encoding="utf-8"),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    try:
        cloudformation.create_stack(**request)
        cloudformation.get_waiter("stack_create_complete").wait(StackName=arguments.name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AlreadyExistsException":
            raise
        update(cloudformation, request)
    stack = cloudformation.describe_stacks(StackName=arguments.name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def update(cloudformation: Any, request: dict[str, Any]) -> None:
    """Bring an existing stack up to date; one that is so already is no error."""
    try:
        cloudformation.update_stack(**request)
        cloudformation.get_waiter("stack_update_complete").wait(StackName=request["StackName"])
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise


def worker_types() -> list[str]:
    """The instance types that the head of cluster.yaml starts."""
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    types = cluster["available_node_types"]
    workers = [node["node_config"] for name, node in types.items() if name != cluster["head_node_type"]]
    return sorted({node["InstanceType"] for node in workers})


def allow_spot(iam: Any) -> None:
    """Make the account's role for spot instances; it exists once anybody has started one."""
    try:
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"InvalidInput", "AccessDenied", "EntityAlreadyExists"}:
            raise


def fill(arguments: argparse.Namespace, ami: str, outputs: dict[str, str]) -> str:
    """cluster.yaml with names, ids and image in their places; its comments stay."""
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    values = {
        "REPLACE_IMAGE": arguments.image,
        "REPLACE_AMI": ami,
        "REPLACE_PUBLIC_SUBNET": outputs["PublicSubnet"],
        "REPLACE_PRIVATE_SUBNET": outputs["PrivateSubnet"],
        "REPLACE_CLUSTER_GROUP": outputs["ClusterGroup"],
        "REPLACE_SSH_GROUP": outputs["SshGroup"],
        "cluster_name: s1ray": f"cluster_name: {arguments.name}",
        "region: us-west-2": f"region: {arguments.region}",
        "Name: s1ray-": f"Name: {arguments.name}-",
        "GroupName: s1ray": f"GroupName: {arguments.name}",
    }
    for place, value in values.items():
        if place not in text:
            sys.exit(f"cluster.yaml has no {place} any more; fill it in by hand from the stack's outputs.")
        text = text.replace(place, value)
    if ECR.match(arguments.image):
        text = text.replace("  - sleep 12\n", f"  - sleep 12\n  - {login(arguments)}\n")
    return text


def login(arguments: argparse.Namespace) -> str:
    """The host's command that logs Docker in at AWS's registry with the role of the node."""
    registry = arguments.image.split("/")[0]
    region = ECR.match(arguments.image)[1]  # type: ignore[index]
    return f"aws ecr get-login-password --region {region} | docker login --username AWS --password-stdin {registry}"


if __name__ == "__main__":
    main()
