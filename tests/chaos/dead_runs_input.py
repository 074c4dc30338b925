"""What the killed runs are to load: two files a case, and an API that answers when it is let."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from infra.local.ports import LOOPBACK, choose_port
from infra.sample.users import make_users

ROWS = 50
"""Of each of the two files."""
WHOLE = {"customers": ROWS, "sales": ROWS, "users": len(make_users()) - 1}
"""What a case leaves in the warehouse: one of the users breaks the contract."""


class Partner:
    """An API whose answer waits until it is let."""

    def __init__(self) -> None:
        self.port = choose_port()
        self.is_open = asyncio.Event()
        self.asked = asyncio.Event()
        self.case = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.asked.set()
        await self.is_open.wait()
        users = make_users()
        for user in users:
            user["id"] += 1000 * self.case
        return web.json_response(users)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_get("/users", self.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, self.port).start()
        try:
            yield
        finally:
            self.is_open.set()
            await runner.cleanup()


def write_files(folder: Path, case: int) -> None:
    """Leave the two files of a case in the raw folder, each at once."""
    first = 1000 * case
    numbers = range(first, first + ROWS)
    customers = [f"{each},Ann,ann@example.com,Oslo,Norway,2024-01-01,1.00" for each in numbers]
    sales = [f"{each},{each},1,2024-01-01,1,1.00,0,web" for each in numbers]
    for name, header, lines in (
        (
            "customers",
            "customer_id,name,email,city,country,signup_date,credit_limit",
            customers,
        ),
        (
            "sales_data",
            "order_id,customer_id,product_id,order_date,quantity,unit_price,discount,channel",
            sales,
        ),
    ):
        unfinished = folder / f"{name}_{case}.csv.part"
        unfinished.write_text("\n".join([header, *lines, ""]))
        unfinished.rename(folder / f"{name}_{case}.csv")
