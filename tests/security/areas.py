"""The areas, in the order in which they are looked at."""

from tests.security import (
    at_rest,
    backups,
    dashboard,
    personal_data,
    roles,
    secret_values,
    tls_kafka,
    tls_mail,
    tls_postgres,
)

AREAS = (
    tls_postgres.AREA,
    tls_kafka.AREA,
    tls_mail.AREA,
    roles.AREA,
    personal_data.AREA,
    secret_values.AREA,
    backups.AREA,
    at_rest.AREA,
    dashboard.AREA,
)
