"""A model survives storage, and what is no model is refused where it is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from subledger.core.errors import InvalidPrice
from subledger.core.pricing import (
    Bounds,
    Flat,
    Graduated,
    Modified,
    PerUnit,
    Tier,
    Volume,
    from_data,
    kind_of,
    to_data,
)
from tests.core.price_models import D, models


@given(models())
def test_a_model_comes_back_from_json_as_it_went(model):
    data = json.loads(json.dumps(to_data(model)))
    back = from_data(kind_of(model), data)
    assert (back, type(back)) == (model, type(model))
    assert to_data(back) == data


def test_the_shapes_stored_so_far_stay():
    assert (kind_of(Flat(999)), to_data(Flat(999))) == ("flat", {"amount_minor": 999})
    assert to_data(PerUnit(D("0.50"))) == {"unit_amount": "0.5"}
    assert from_data("per_unit", {"unit_amount": "0.50"}) == PerUnit(D("0.5"))


def test_what_stands_over_a_model_stands_beside_its_fields():
    model = Modified(Graduated((Tier(D("1E+2"), D(5)), Tier(None, D("3.5"), 7))), minimum_minor=10)
    assert kind_of(model) == "graduated"
    assert to_data(model) == {
        "tiers": [
            {"up_to": "100", "unit_amount": "5"},
            {"up_to": None, "unit_amount": "3.5", "flat_minor": 7},
        ],
        "minimum_minor": 10,
    }


def test_tiers_may_say_where_they_start():
    data = {
        "bounds": "from",
        "tiers": [{"from": "0", "unit_amount": "2"}, {"from": "100", "unit_amount": "1"}],
    }
    model = from_data("volume", data)
    assert model == Volume((Tier(D(100), D(2)), Tier(None, D(1))), Bounds.FROM)
    assert to_data(model) == data


def test_nulls_and_an_open_bound_may_be_left_out():
    full = {"tiers": [{"up_to": None, "unit_amount": "1"}], "minimum_minor": None}
    assert from_data("graduated", full) == from_data("graduated", {"tiers": [{"unit_amount": "1"}]})


one = {"up_to": None, "unit_amount": "1"}


@pytest.mark.parametrize(
    ("kind", "data", "pointer"),
    [
        ("free", {}, "/model"), (None, {}, "/model"), ([], {}, "/model"),
        ("flat", [], ""), ("flat", {}, "/amount_minor"),
        ("flat", {"amount_minor": "5"}, "/amount_minor"),
        ("flat", {"amount_minor": True}, "/amount_minor"),
        ("flat", {"amount_minor": 5.0}, "/amount_minor"),
        ("flat", {"amount_minor": None}, "/amount_minor"),
        ("flat", {"amount_minor": -5}, "/amount_minor"),
        ("flat", {"amount_minor": 5, "a/b~": 1}, "/a~1b~0"),
        ("flat", {"amount_minor": 5, "model": {}}, "/model"),
        ("flat", {"amount_minor": 5, "_by_values": {}}, "/_by_values"),
        ("flat", {"amount_minor": 5, "included_units": "5"}, "/included_units"),
        ("flat", {"amount_minor": 5, "minimum_minor": "7"}, "/minimum_minor"),
        ("per_unit", {"unit_amount": 5}, "/unit_amount"),
        ("per_unit", {"unit_amount": "-5"}, "/unit_amount"),
        ("per_unit", {"unit_amount": "1e5"}, "/unit_amount"),
        ("per_unit", {"unit_amount": "NaN"}, "/unit_amount"),
        ("per_unit", {"unit_amount": "٣"}, "/unit_amount"),
        ("per_unit", {"unit_amount": "1\n"}, "/unit_amount"),
        ("per_unit", {"unit_amount": "0.0000000000001"}, "/unit_amount"),
        ("per_unit", {"unit_amount": "9" * 38}, "/unit_amount"),
        ("graduated", {"tiers": {}}, "/tiers"), ("graduated", {"tiers": [one] * 101}, "/tiers"),
        ("graduated", {"tiers": []}, "/tiers"), ("graduated", {"tiers": [5]}, "/tiers/0"),
        ("graduated", {"tiers": [one, one]}, "/tiers/0/up_to"),
        ("graduated", {"tiers": [{**one, "up_to": 5}]}, "/tiers/0/up_to"),
        ("graduated", {"tiers": [{**one, "up_to": "5"}]}, "/tiers/0/up_to"),
        ("graduated", {"tiers": [{**one, "rate": "5"}]}, "/tiers/0/rate"),
        ("graduated", {"tiers": [{**one, "unit_amount": "9" * 30}]}, "/tiers/0/unit_amount"),
        ("graduated", {"tiers": [{**one, "from": "0"}]}, "/tiers/0/from"),
        ("graduated", {"tiers": [one], "charge_zero": 1}, "/charge_zero"),
        ("graduated", {"tiers": [one], "bounds": "below"}, "/bounds"),
        ("graduated", {"tiers": [one], "bounds": {}}, "/bounds"),
        ("volume", {"tiers": [one], "bounds": "from"}, "/tiers/0/up_to"),
        ("volume", {"tiers": [{"unit_amount": "1"}], "bounds": "from"}, "/tiers/0/from"),
        ("volume", {"tiers": [{"from": "1"}], "bounds": "from"}, "/tiers/0/from"),
        ("volume", {"tiers": [{"from": "0"}, {"from": "0"}], "bounds": "from"}, "/tiers/1/from"),
        ("volume", {"bounds": "from"}, "/tiers"),
        ("flat", {"amount_minor": 5, "bounds": "from"}, "/bounds"),
        ("blocks", {"tiers": [{"size": "1", "block_amount": "1", "most_blocks": 1.5}]},
         "/tiers/0/most_blocks"),
        ("matrix", {"dimensions": "ab", "rates": []}, "/dimensions"),
        ("matrix", {"dimensions": ["a"], "rates": [{"values": [1], "unit_amount": "1"}]},
         "/rates/0/values"),
        ("matrix", {"dimensions": ["a"], "rates": [{"values": [], "unit_amount": "1"}]},
         "/rates/0/values"),
        ("matrix", {"dimensions": ["a"], "rates": [None] * 1001}, "/rates"),
    ],
)  # fmt: skip
def test_data_that_is_no_price(kind, data, pointer):
    with pytest.raises(InvalidPrice) as refused:
        from_data(kind, data)
    assert refused.value.pointer == pointer
    assert refused.value.fix
