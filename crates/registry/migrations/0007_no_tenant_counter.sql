-- Numbers of tenants are drawn at random.
DELETE FROM counters WHERE name = 'tenant';
