"""How hard questions are: labels of the sources, or models that answer them, graded (s1, section 2.2, "Difficulty").

    questions -> each model (s1ray.teachers, Ray Data) -> answers/MODEL/ -> graded on workers -> difficulty.parquet
                                                                                        |
                                                              too easy, too hard <- pass rates

In s1, Qwen2.5-7B-Instruct and Qwen2.5-32B-Instruct answer every question once, a judge grades the answers, and whatever
either model gets right is dropped. Here models, grader and bounds are configured.
"""
