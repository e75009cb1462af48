"""Every operation of the store, each written once: ``await store.read(queries.counts.overview, since)``."""

from app.store.queries import accept as accept
from app.store.queries import audit as audit
from app.store.queries import changes as changes
from app.store.queries import counts as counts
from app.store.queries import deliveries as deliveries
from app.store.queries import fallbacks as fallbacks
from app.store.queries import incidents as incidents
from app.store.queries import last_known as last_known
from app.store.queries import messages as messages
from app.store.queries import page as page
from app.store.queries import prune as prune
from app.store.queries import quarantine as quarantine
from app.store.queries import queues as queues
from app.store.queries import reconcile as reconcile
from app.store.queries import reports as reports
from app.store.queries import silences as silences
