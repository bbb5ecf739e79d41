from reasonembed.serving.rate_limiter import RateLimiter


def test_a_bucket_is_refilled_as_time_passes():
    seconds = [0.0]
    limiter = RateLimiter(6, lambda: seconds[0])
    assert [limiter.take("ann") for _ in range(8)] == [0] * 6 + [10, 10]
    assert limiter.take("bob") == 0
    seconds[0] = 9.0
    assert limiter.take("ann") == 1
    seconds[0] = 10.0
    assert [limiter.take("ann"), limiter.take("ann")] == [0, 10]


def test_zero_is_no_limit():
    assert [RateLimiter(0).take("ann") for _ in range(100)] == [0] * 100
