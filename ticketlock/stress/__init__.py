"""`ticketlock stress`: worker processes take turns on a lock store, and a checker judges them.

Each worker records what its tasks ask for and what they are granted. The checker judges these
records, and asks no lock.
"""
