-- Card payments as the shops report them, which are booked as movements later, and blocked cards.
-- Adds to a database of customers.sql that may have been in use. Running this twice changes nothing.
BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS payments (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    merchant TEXT NOT NULL,
    city TEXT NOT NULL,
    amount_cents INTEGER NOT NULL,
    paid_on TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS payments_by_customer ON payments (customer_id, paid_on);

-- One row for each card that is blocked, with the key of the call that did it.
CREATE TABLE IF NOT EXISTS blocked_cards (
    customer_id INTEGER PRIMARY KEY REFERENCES customers (id),
    call_key TEXT NOT NULL UNIQUE
);

INSERT OR IGNORE INTO payments (id, customer_id, merchant, city, amount_cents, paid_on) VALUES
    (1, 123, 'Corner Market', 'Plymouth', 2000, '2026-09-14'),
    (2, 123, 'Harbour Cafe', 'Plymouth', 640, '2026-09-15'),
    (3, 123, 'Hotel Miradouro', 'Lisbon', 48900, '2026-09-17'),
    (4, 124, 'Spoke and Wheel', 'Leeds', 64990, '2026-09-02'),
    (5, 124, 'Paper Lantern Books', 'Leeds', 1850, '2026-09-11'),
    (6, 125, 'Ceannt Station', 'Galway', 6250, '2026-09-16'),
    (7, 125, 'Quay Street Pharmacy', 'Galway', 1299, '2026-09-16');

PRAGMA user_version = 2;

COMMIT;
