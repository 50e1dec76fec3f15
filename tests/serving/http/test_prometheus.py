from __future__ import annotations

from s1ray.serving.http.prometheus import merge

HEAD = """\
# HELP ray_s1ray_waits_total Stops that were swallowed.
# TYPE ray_s1ray_waits_total counter
ray_s1ray_waits_total{model="m",NodeAddress="a"} 3.0
# HELP ray_node_cpu CPUs.
# TYPE ray_node_cpu gauge
ray_node_cpu 2.0
"""
WORKER = """\
# HELP ray_s1ray_waits_total Stops that were swallowed.
# TYPE ray_s1ray_waits_total counter
ray_s1ray_waits_total{model="m",NodeAddress="b"} 4.0
# HELP ray_vllm_ttft_seconds Time to first token.
# TYPE ray_vllm_ttft_seconds histogram
ray_vllm_ttft_seconds_bucket{le="0.1"} 1.0
ray_vllm_ttft_seconds_count 1.0
ray_vllm_ttft_seconds_sum 0.05
"""


def test_nodes_pages_are_one_page_with_each_metric_under_one_header() -> None:
    assert merge([HEAD, WORKER, ""]).splitlines() == [
        "# HELP ray_s1ray_waits_total Stops that were swallowed.",
        "# TYPE ray_s1ray_waits_total counter",
        'ray_s1ray_waits_total{model="m",NodeAddress="a"} 3.0',
        'ray_s1ray_waits_total{model="m",NodeAddress="b"} 4.0',
        "# HELP ray_vllm_ttft_seconds Time to first token.",
        "# TYPE ray_vllm_ttft_seconds histogram",
        'ray_vllm_ttft_seconds_bucket{le="0.1"} 1.0',
        "ray_vllm_ttft_seconds_count 1.0",
        "ray_vllm_ttft_seconds_sum 0.05",
    ]


def test_without_nodes_the_page_is_empty() -> None:
    assert merge([]) == ""
