from riverchief.brokers.local import free_port


def test_servers_that_are_set_up_together_never_get_the_same_port() -> None:
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == len(given)
    assert max(given) < 32_768, "a connection could be given it before the server listens"
