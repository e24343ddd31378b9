-- phase: pre
-- What services of this database share and nobody else may know.
CREATE TABLE tasker.secrets (
    name  text  PRIMARY KEY,
    value bytea NOT NULL
);

-- 244 random bits of the server's strong source.
INSERT INTO tasker.secrets (name, value)
VALUES ('page_tokens', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
