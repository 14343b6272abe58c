-- The search here is an index of `job`: it has nothing to learn, and no tables of its own.
SELECT 1;
