"""What Alembic runs: the migrations, over the connection that `gateway.record.schema` or a developer gives."""

import os

from alembic import context
from sqlalchemy import create_engine

from gateway.record.database import driver_url
from gateway.record.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    # Only where a developer calls alembic by hand.
    connection = create_engine(driver_url(os.environ["EASEL_DATABASE_URL"])).connect()
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
