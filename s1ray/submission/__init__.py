"""`s1ray submit`: a stage as a Ray job that is found again, followed, and submitted anew when its cluster was lost.

The same stage with the same config has the same name, so that the command can be given again at any time: it attaches
to the job that runs, says that one is complete, or submits the next attempt, which resumes from what the run folder
holds. `naming` is that name and what the job runs, `api` asks the cluster over HTTP, `following` is the loop, and
`costs` counts what the nodes have cost.
"""
