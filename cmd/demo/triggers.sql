-- What a shop on one server leaves to triggers. On shards they would run where the order is, which is not where the listeners are, so there the application
-- does it (requests.go).

CREATE FUNCTION announce_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orders', json_build_object('id', NEW.id, 'status', NEW.status, 'total', NEW.total)::text);
    RETURN NULL;
END $$;

CREATE FUNCTION touch_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch_order();
CREATE TRIGGER announce AFTER INSERT OR UPDATE OF status ON orders FOR EACH ROW EXECUTE FUNCTION announce_order();
