"""Render the chart with every file of values here, and check the result against the schemas that a cluster would check.

    git clone --depth 1 --branch v1.7.0 https://github.com/ray-project/kuberay
    python deploy/kubernetes/validate.py kuberay/ray-operator/config/crd/bases

Needs `helm` on PATH and jsonschema; with kubernetes-validate installed, NetworkPolicy, ConfigMap and claim are checked,
too. The CRDs hold the schema of a whole pod. An API server drops fields that they do not know; here they are errors.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
IMAGE = "registry.example/s1ray@sha256:" + "0" * 64
FILES = {
    "eval": ["--set-file", f"job.file={ROOT}/s1ray/recipes/eval/scaling.yaml"],
    "service": ["--set-file", f"service.config={ROOT}/deploy/serve/s1.1-32b.tp4.h100.yaml"],
}
"""What values files cannot hold."""


def main() -> None:
    """Check all; print one line a manifest, and exit with 1 where one is wrong."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    schemas = crds(Path(sys.argv[1]))
    wrong = 0
    for name in stages():
        for manifest in render(name):
            errors = check(manifest, schemas)
            wrong += bool(errors)
            print(f"{name}: {manifest['kind']} {manifest['metadata']['name']}: {'; '.join(errors) or 'valid'}")
    claim = yaml.safe_load((HERE / "claim.yaml").read_text(encoding="utf-8"))
    print(f"claim.yaml: {'; '.join(check(claim, schemas)) or 'valid'}")
    sys.exit(int(wrong > 0))


def stages() -> list[str]:
    """The files of values, by name."""
    return sorted(file.stem for file in HERE.glob("*.yaml") if file.name != "claim.yaml")


def render(name: str, *options: str) -> list[dict[str, Any]]:
    """The manifests of a release with a file of values.

    Raises:
        ValueError: Helm refuses, with its own words.
    """
    command = ["helm", "template", name, str(ROOT / "deploy" / "helm" / "s1ray")]
    command += ["--values", str(HERE / f"{name}.yaml"), "--set", f"image={IMAGE}", *FILES.get(name, []), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def crds(folder: Path) -> dict[str, dict[str, Any]]:
    """The schema of each kind of `ray.io/v1` in a folder of CRDs."""
    schemas = {}
    for file in sorted(folder.glob("ray.io_*.yaml")):
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]
        for version in definition["versions"]:
            if version["name"] == "v1":
                schemas[definition["names"]["kind"]] = strict(version["schema"]["openAPIV3Schema"])
    if not schemas:
        sys.exit(f"{folder}: no CRDs of KubeRay here; they are in ray-operator/config/crd/bases of its repository")
    return schemas


def strict(schema: Any) -> Any:
    """A CRD's schema in which unknown fields are errors; kind, version and metadata stay open."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        closed["additionalProperties"] = False
    return closed


def check(manifest: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong with a manifest, a sentence each."""
    schema = schemas.get(manifest["kind"])
    if schema is None:
        return check_builtin(manifest)
    validator = jsonschema.Draft202012Validator(schema)
    errors = validator.iter_errors(manifest)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]


def check_builtin(manifest: dict[str, Any]) -> list[str]:
    """The same for kinds of Kubernetes itself."""
    try:
        import kubernetes_validate
    except ImportError:
        return ["not checked, kubernetes-validate is not installed"]
    try:
        kubernetes_validate.validate(manifest, "1.35", strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error)[:300]]
    return []


if __name__ == "__main__":
    main()
