"""Several stages in order, each reading what the one before wrote: `s1ray run RECIPE`.

A recipe (`config`) lists stages, each with its own config (a stage's recipe by name, or a YAML file) and the fields
that tie it to the others (`filling`). With a `matrix`, a stage is run once for each combination of values of its axes
(`matrix`): data sets and seeds, say. Run folders are `<output>/<stage>`, and `<output>/<stage>/data=random/seed=0` in a
matrix. A run that is complete is skipped, and one that was killed is resumed, so the same command continues a job that
was stopped anywhere. One Ray cluster serves all of it.
"""

from s1ray.pipelines.config import PipelineConfig, ServeStep, StageStep
from s1ray.pipelines.pipeline import Pipeline, load_pipeline
from s1ray.pipelines.running import run_pipeline

__all__ = ["Pipeline", "PipelineConfig", "ServeStep", "StageStep", "load_pipeline", "run_pipeline"]
