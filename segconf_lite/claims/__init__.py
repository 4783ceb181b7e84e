"""Claims: worded and registered first, then measured, then judged by a rule that was fixed beforehand.

`registry` reads ``book/claims.yml``, `judge` decides a claim from a table of cases, `ledger` keeps tables and
verdicts on disk, and `recheck` measures a stored claim again.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
