from reasonembed.errors import JobFailed, UserError


def test_exit_codes_tell_bad_input_from_a_failure():
    assert (UserError.exit_code, JobFailed.exit_code) == (2, 1)
    assert not issubclass(JobFailed, UserError)
    assert not issubclass(UserError, JobFailed)
