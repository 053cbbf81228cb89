-- Teams of users, as in SQLite.

CREATE TRIGGER users_given AFTER UPDATE OF team ON users FOR EACH ROW WHEN
    (OLD.team <> NEW.team) EXECUTE FUNCTION changes_of_users();
