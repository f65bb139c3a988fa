"""Refusals come at once, then at a bounded rate, each exactly once and in order."""

import asyncio

from trimtab.adapters.wire.pacing import PacedRefusals
from trimtab.adapters.wire.reply import Reply

REPLY = Reply(429, b"{}")


def refused(pacer, count, told):
    for number in range(len(told) + len(pacer), len(told) + len(pacer) + count):
        pacer.refuse(lambda reply, number=number: told.append((number, reply)), REPLY)


async def until_all_are_told(pacer):
    async with asyncio.timeout(10):
        while len(pacer):  # noqa: ASYNC110 - it looks from outside
            await asyncio.sleep(0.001)


def test_a_few_are_told_at_once_and_the_others_in_their_turn():
    async def flood():
        pacer, told = PacedRefusals(rate=1000), []
        refused(pacer, 100, told)
        assert (len(told), len(pacer)) == (40, 60)
        await until_all_are_told(pacer)
        assert told == [(number, REPLY) for number in range(100)]

    asyncio.run(flood())


def test_more_than_the_rate_does_not_wait():
    async def flood():
        pacer, told = PacedRefusals(rate=100), []
        refused(pacer, 4 + 100, told)
        assert (len(told), len(pacer)) == (4, 100)
        pacer.refuse(told.append, REPLY)
        assert (len(told), len(pacer)) == (5, 100)

    asyncio.run(flood())


def test_a_flood_is_told_no_faster_than_the_rate():
    async def flood():
        pacer, told, loop = PacedRefusals(rate=500), [], asyncio.get_running_loop()
        begun = loop.time()
        refused(pacer, 220, told)
        await until_all_are_told(pacer)
        assert len(told) == 220
        assert loop.time() - begun >= 0.39  # 20 at once, 200 at 500 a second

    asyncio.run(flood())


def test_after_a_quiet_time_they_are_told_at_once_again():
    async def flood():
        pacer, told = PacedRefusals(rate=1000), []
        refused(pacer, 50, told)
        await until_all_are_told(pacer)
        await asyncio.sleep(0.2)
        before = len(told)
        refused(pacer, 40, told)
        assert len(told) == before + 40

    asyncio.run(flood())


def test_one_who_cannot_be_told_does_not_keep_the_others_waiting():
    async def flood():
        pacer, told, loop = PacedRefusals(rate=1000), [], asyncio.get_running_loop()
        failed = []
        loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
        refused(pacer, 40, told)
        pacer.refuse(lambda _: 1 / 0, REPLY)
        for number in range(40, 60):
            pacer.refuse(lambda reply, number=number: told.append((number, reply)), REPLY)
        await until_all_are_told(pacer)
        assert told == [(number, REPLY) for number in range(60)]
        assert [type(error) for error in failed] == [ZeroDivisionError]

    asyncio.run(flood())
