-- Everything that would slow the load down comes after it: indexes, foreign keys, triggers.

CREATE UNIQUE INDEX products_sku ON products (sku);
CREATE INDEX products_category ON products (category, price);
CREATE INDEX orders_id ON orders (id);
CREATE INDEX orders_user ON orders (user_id, placed_at DESC);
CREATE INDEX orders_placed ON orders (placed_at);
CREATE INDEX orders_open ON orders (placed_at) WHERE status IN ('new', 'paid', 'shipped');
CREATE INDEX order_items_product ON order_items (product_id);
CREATE INDEX payments_order ON payments (user_id, order_id);
CREATE INDEX events_user ON events (user_id, at DESC);
CREATE INDEX events_payload ON events USING gin (payload);

ALTER TABLE users ADD FOREIGN KEY (country) REFERENCES countries;
ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users;
ALTER TABLE order_items ADD FOREIGN KEY (user_id, order_id) REFERENCES orders ON DELETE CASCADE;
ALTER TABLE order_items ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE payments ADD FOREIGN KEY (user_id, order_id) REFERENCES orders;
ALTER TABLE events ADD FOREIGN KEY (user_id) REFERENCES users;

CREATE VIEW revenue_by_day AS
SELECT date_trunc('day', placed_at) AS day, count(*) AS orders, sum(total) AS revenue
FROM orders
WHERE status <> 'cancelled'
GROUP BY 1;

CREATE VIEW customer_value AS
SELECT u.id, u.name, u.country, u.plan, count(o.id) AS orders, coalesce(sum(o.total), 0) AS spent, max(o.placed_at) AS last_order
FROM users u
LEFT JOIN orders o ON o.user_id = u.id AND o.status <> 'cancelled'
GROUP BY u.id;

-- Orders one of each product at today's price and returns the order's id.
CREATE FUNCTION place_order(buyer bigint, basket bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    new_id bigint;
BEGIN
    INSERT INTO orders (user_id, total)
    SELECT buyer, sum(p.price) FROM unnest(basket) AS b (id) JOIN products p USING (id)
    RETURNING id INTO new_id;

    INSERT INTO order_items (order_id, line, user_id, product_id, quantity, unit_price)
    SELECT new_id, b.line, buyer, p.id, 1, p.price
    FROM unnest(basket) WITH ORDINALITY AS b (id, line) JOIN products p USING (id);

    RETURN new_id;
END $$;
