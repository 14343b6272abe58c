-- What PostgreSQL has besides the tables of the embedded store.

-- The right to act, until a time, by the clock of the database; see store/leases.py.
CREATE TABLE lease (
    name        TEXT NOT NULL PRIMARY KEY,
    holder      TEXT NOT NULL,      -- '': given back
    revision    BIGINT NOT NULL,    -- goes up with each holder
    until_ms    BIGINT NOT NULL,
    machine     TEXT NOT NULL,      -- where the holder is, and its process there
    boot_id     TEXT NOT NULL,
    pid         BIGINT NOT NULL,
    start_ticks BIGINT NOT NULL
);

-- What SQLite has and PostgreSQL calls otherwise. Simple ones are inlined where they are used.

CREATE FUNCTION instr(string text, part text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN strpos(string, part);

CREATE FUNCTION max(a bigint, b bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN greatest(a, b);

CREATE FUNCTION json_array_length(list text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN json_array_length(CAST(list AS json));

-- A number with leading zeros, behind what stands before it in the form: '-V%04d'.
CREATE FUNCTION printf(form text, number bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN split_part(form, '%0', 1)
           || lpad(CAST(number AS text),
                   greatest(CAST(rtrim(split_part(form, '%0', 2), 'd') AS integer),
                            length(CAST(number AS text))),
                   '0');

-- A text in JSON, by its path: '$.algorithm.name', '$[0]'.
CREATE FUNCTION json_extract(document text, place text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CAST(document AS json)
           #>> string_to_array(btrim(regexp_replace(place, '[][$.]+', '.', 'g'), '.'), '.');

CREATE FUNCTION json_each(list text) RETURNS TABLE (value text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
        SELECT json_array_elements_text(CAST(list AS json));
    END;

CREATE FUNCTION joined(so_far text, next text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN so_far IS NULL THEN next ELSE so_far || ',' || next END;

CREATE AGGREGATE group_concat(text) (SFUNC = joined, STYPE = text);
