"""What every subject needs: time, ids, the ledger, settings and the ports shared by several subjects."""
