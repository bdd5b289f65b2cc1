-- The bank's customers. Amounts are whole cents, and a balance is the sum of its movements.
-- Running this twice changes nothing: two processes may both find the database empty.
BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS customers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS movements (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    description TEXT NOT NULL,
    amount_cents INTEGER NOT NULL,
    pending INTEGER NOT NULL CHECK (pending IN (0, 1))
);

CREATE INDEX IF NOT EXISTS movements_by_customer ON movements (customer_id);

INSERT OR IGNORE INTO customers (id, name) VALUES
    (123, 'John'),
    (124, 'Amina'),
    (125, 'Siobhan O''Neill');

INSERT OR IGNORE INTO movements (id, customer_id, description, amount_cents, pending) VALUES
    (1, 123, 'Salary', 200000, 0),
    (2, 123, 'Rent', -185655, 0),
    (3, 123, 'Groceries', -2000, 1),
    (4, 124, 'Opening deposit', 985000, 0),
    (5, 124, 'Bicycle', -64990, 0),
    (6, 125, 'Opening deposit', 5000, 0),
    (7, 125, 'Train ticket', -6250, 1);

PRAGMA user_version = 1;

COMMIT;
