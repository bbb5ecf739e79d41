import os

import pytest

from reasonembed.distributed.local_token import AUTH_MODE, AUTH_TOKEN, require_token


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (AUTH_MODE, AUTH_TOKEN, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    yield
    for name in (AUTH_MODE, AUTH_TOKEN):
        os.environ.pop(name, None)


def test_a_local_ray_gets_a_random_token():
    tokens = set()
    for _ in range(2):
        require_token()
        assert os.environ[AUTH_MODE] == "token"
        tokens.add(os.environ[AUTH_TOKEN])
        del os.environ[AUTH_MODE], os.environ[AUTH_TOKEN]
    assert len(tokens) == 2
    assert all(len(token) == 64 for token in tokens)


def test_a_token_that_exists_is_not_replaced():
    require_token()
    token = os.environ[AUTH_TOKEN]
    require_token()
    assert os.environ[AUTH_TOKEN] == token


@pytest.mark.parametrize("variables", [{AUTH_MODE: "disabled"}, {"RAY_ADDRESS": "auto"}])
def test_the_environment_decides_where_it_says_something(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    require_token()
    assert AUTH_TOKEN not in os.environ
