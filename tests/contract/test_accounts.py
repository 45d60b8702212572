"""stillpoint.compute.v1.AccountService."""

from stillpoint.compute.v1 import account_service_pb2 as pb
from tests.contract.cloud import Cloud, a_name
from tests.contract.refusals import invalid


def test_an_account_is_in_good_standing_when_it_is_first_seen(cloud: Cloud):
    account_id = a_name("account")
    answer = cloud.accounts.GetAccount(pb.GetAccountRequest(account_id=account_id))
    assert answer.account == pb.Account(id=account_id, standing=pb.Account.STANDING_GOOD)


def test_a_standing_lasts_until_it_is_set_again(cloud: Cloud):
    account_id = a_name("account")
    for standing in (pb.Account.STANDING_IN_DEBT, pb.Account.STANDING_IN_DEBT, pb.Account.STANDING_GOOD):
        answer = cloud.accounts.SetAccountStanding(
            pb.SetAccountStandingRequest(account_id=account_id, standing=standing)
        )
        assert answer.account == pb.Account(id=account_id, standing=standing)
        seen = cloud.accounts.GetAccount(pb.GetAccountRequest(account_id=account_id)).account
        assert seen == answer.account


def test_one_accounts_debt_is_not_anothers(cloud: Cloud):
    cloud.set_standing(a_name("account"), pb.Account.STANDING_IN_DEBT)
    other = cloud.accounts.GetAccount(pb.GetAccountRequest(account_id=a_name("account"))).account
    assert other.standing == pb.Account.STANDING_GOOD


def test_without_an_account_id_it_is_the_callers_own(cloud: Cloud):
    own = cloud.accounts.GetAccount(pb.GetAccountRequest()).account
    set_again = pb.SetAccountStandingRequest(standing=own.standing)
    assert cloud.accounts.SetAccountStanding(set_again).account == own
    assert cloud.accounts.GetAccount(pb.GetAccountRequest(account_id=own.id)).account == own


def test_get_account_fails_when_the_account_id_is_malformed(cloud: Cloud):
    with invalid("account_id"):
        cloud.accounts.GetAccount(pb.GetAccountRequest(account_id="An Account"))


def test_set_account_standing_fails_when_the_account_id_is_malformed_and_the_standing_not_set(cloud: Cloud):
    with invalid("account_id", "standing"):
        cloud.accounts.SetAccountStanding(pb.SetAccountStandingRequest(account_id="An Account"))


def test_set_account_standing_fails_when_the_standing_is_unknown(cloud: Cloud):
    unknown = pb.SetAccountStandingRequest.FromString(
        pb.SetAccountStandingRequest(account_id="a").SerializeToString() + b"\x18\x63"
    )
    assert unknown.standing == 99
    with invalid("standing"):
        cloud.accounts.SetAccountStanding(unknown)
