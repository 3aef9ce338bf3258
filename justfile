# What continuous integration runs.
ci:
    .ci/run

# Everything that must pass.
test:
    scripts/test

# One test, by a part of its name.
one name:
    cargo test --test integration {{name}}

# A fleet of sample tenants backed up, lost and restored.
demo *arguments:
    scripts/demo {{arguments}}

# Write docs/json anew after a change of a report.
schemas:
    UPDATE_SCHEMAS=1 cargo test --test integration json_schemas
