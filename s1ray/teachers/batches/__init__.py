"""Asking teachers through the providers' batch APIs: half the price, within a day.

    asks -> a batch (one file or body of requests) -> its id on disk -> waiting -> results -> responses

A batch is paid for once it is created, whatever becomes of the process that created it. So a record of it is on disk
before the request that creates it, and its id as soon as that is known. A run that was killed at any time and is
started again finds its batches: by the id; or, where only the record is there, by what the provider lists. No ask goes
into a second batch before it is certain that there is no first one, or that the first one has no answer for it.

`records` is what is on disk; `openai` and `anthropic` are the providers' APIs, over `client`; `exchange` says what asks
and answers look like; `submitting` makes batches of asks, `results` reads what came, and `running` is the teacher.
"""
