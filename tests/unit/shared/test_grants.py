"""Each table says which service may do what with it."""

from __future__ import annotations

from shared.database.grants import GRANTS
from shared.database.tables import Base


def test_each_table_of_the_schema_says_who_may_do_what_with_it() -> None:
    tables = {mapper.class_.__name__ for mapper in Base.registry.mappers}
    undeclared = tables - {table.__name__ for table, rights in GRANTS.items() if rights}
    assert not undeclared, f"shared/database/grants.py: GRANTS must say who uses {', '.join(sorted(undeclared))}"
