"""What the page does: moves, stays live, says what is wrong, and obeys the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from salus.kernel import tokens
from salus.kernel.identity import system
from salus.tracking.client import TrackingClient

if TYPE_CHECKING:
    from salus.testing.servers import RunningServer

pytestmark = pytest.mark.service


def test_links_change_the_page_without_loading_it_anew(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    who = reader()
    page = who.open(pages["runs"])
    page.evaluate("window.kept = 1")
    page.get_by_role("link", name="train-2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("train-2")
    expect(page.locator("main")).to_be_focused()
    expect(page).to_have_title("train-2 · Salus")
    expect(page.get_by_test_id("announcer")).to_have_text("train-2")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    assert page.evaluate("window.kept") == 1


def test_the_keyboard_is_enough(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    who = reader()
    page = who.open(pages["ward"])
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Runs").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")


def test_an_unknown_address_is_named(reader: Callable[..., Any]) -> None:
    page = reader().open("/nowhere")
    assert "nothing at /nowhere" in page.locator("main").inner_text()


def test_an_error_says_what_is_wrong_in_its_place(reader: Callable[..., Any]) -> None:
    page = reader().open("/models/delay/versions/9.9.9")
    problem = page.locator("main [role=alert]").first
    expect(problem).to_contain_text("Not found")
    expect(problem).to_contain_text("9.9.9")


def test_a_server_that_is_away_is_named_and_comes_back(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    who = reader()
    page = who.open(pages["runs"])
    page.route("**/api/**", lambda route: route.abort())
    page.get_by_label("Experiment").select_option("delays")
    problem = page.locator("main [role=alert]")
    expect(problem).to_contain_text("The server does not answer")
    expect(problem).to_contain_text("salus up")
    expect(page.get_by_role("link", name="train-2")).to_be_visible()
    page.unroute("**/api/**")
    problem.get_by_role("button", name="Try again").click()
    expect(problem).to_have_count(0)


def test_a_run_is_drawn_while_it_goes_on(ward: RunningServer, reader: Callable[..., Any]) -> None:
    who = reader()
    with TrackingClient(ward.session).start("live", name="going-on") as run:
        page = who.open(f"/runs/{run.id}")
        expect(page.locator("main")).to_contain_text("Running")
        expect(page.get_by_role("status")).to_have_text("Live")
        for at in range(5):
            run.log(loss=1.0 - at / 10, step=at)
        run.flush()
        expect(page.get_by_role("row", name="loss")).to_contain_text("0.600", timeout=10_000)
        expect(page.get_by_role("button", name="Show as table: loss")).to_be_visible(timeout=10_000)
    expect(page.locator("main header").first).to_contain_text("Finished", timeout=10_000)


def test_new_runs_come_into_the_list(ward: RunningServer, reader: Callable[..., Any]) -> None:
    page = reader().open("/runs")
    expect(page.get_by_role("status")).to_have_text("Live")
    with TrackingClient(ward.session).start("arrivals", name="the-first"):
        expect(page.get_by_role("link", name="the-first")).to_be_visible(timeout=10_000)


def test_a_chart_can_be_read_as_a_table(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader().open(pages["run"])
    page.get_by_role("button", name="Show as table: loss").click()
    table = page.get_by_role("region", name="loss as a table")
    expect(table.get_by_role("row").nth(1)).to_contain_text("0.720")
    assert table.get_by_role("row").count() == 61


def test_a_chart_follows_the_theme(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader(theme="light").open(pages["run"])
    page.wait_for_selector("canvas")
    pixels = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(pixels)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.wait_for_timeout(500)
    assert page.evaluate(pixels) != before


def test_the_chain_can_be_verified(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader().open(pages["ledger"])
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.locator("main")).to_contain_text("The chain is whole")
    page.get_by_label("Kind").select_option("BatchRefused")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "kind=BatchRefused" in page.url


def test_a_refused_batch_is_explained(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader().open(pages["dataset"])
    expect(page.locator("main")).to_contain_text("Refused batches")
    expect(page.locator("main")).to_contain_text("temp is between -40 and 120")


def test_a_token_opens_a_guarded_server(guarded_ward: RunningServer, reader: Callable[..., Any]) -> None:
    who = reader(server=guarded_ward)
    page = who.open("/runs")
    field = page.get_by_label("Access token").last
    expect(field).to_be_visible()
    _, text = guarded_ward.context.database.write(
        lambda tx: tokens.create_token(tx, system("test"), "ann", "viewer", "default")
    )
    field.fill(text)
    field.press("Enter")
    expect(page.locator("main")).to_contain_text("No run yet")
    expect(page.get_by_role("status")).to_have_text("Live")


def test_the_ward_draws_every_vital_sign(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader().open(pages["ward"])
    curves = page.locator("ul.vitals svg[role=img]")
    assert curves.count() == 8
    for number in range(curves.count()):
        expect(curves.nth(number).locator("path.line")).to_have_count(1)


def test_a_retraining_shows_each_decision_and_what_it_rests_on(
    pages: dict[str, str], reader: Callable[..., Any]
) -> None:
    page = reader().open(pages["retraining"])
    decisions = page.locator("main ol > li strong")
    assert decisions.all_inner_texts() == ["Training", "Comparing", "Rolling out"]
    expect(page.get_by_role("row", name="all rows")).to_contain_text("[0.0080, 0.0340]")
    for kind in ("pipeline run", "rollout"):
        expect(page.locator("main ol > li").filter(has_text=kind).first.get_by_role("link").first).to_be_visible()
    page.locator("main ol").get_by_role("link", name="rol_").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Rollout of delay 1.1.0")


def test_an_answer_of_no_is_listed_with_its_reason(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader().open(pages["retrainings"])
    row = page.get_by_role("row").filter(has_text="Declined")
    expect(row).to_contain_text("fix the feed")
    row.get_by_role("link", name="Broken input").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("`temp` is missing")
    expect(page.get_by_role("row").filter(has_text="Declined")).to_be_visible()


def test_what_happened_stands_in_lanes_below_the_chart(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader().open(pages["model"])
    lanes = page.locator(".lanes").first
    for name, what in (("Version", "delay 1.0.0 answered"), ("Alarms", "Broken input"), ("Training", "no retraining")):
        expect(lanes.get_by_role("group", name=name).get_by_label(what).first).to_be_visible()
    page.get_by_role("button", name="Show as table: Log loss").click()
    expect(page.get_by_role("region", name="Log loss as a table")).to_contain_text("fix the feed")


def test_dragging_looks_closer(pages: dict[str, str], reader: Callable[..., Any]) -> None:
    page = reader().open(pages["model"])
    alarm = page.locator(".lanes").first.get_by_role("group", name="Alarms").get_by_label("Broken input")
    plot = page.locator(".u-over").first
    plot.scroll_into_view_if_needed()
    before, area = alarm.bounding_box(), plot.bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.9, middle, steps=5)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert alarm.bounding_box()["width"] > 1.5 * before["width"]
    plot.dblclick()
    page.wait_for_timeout(200)
    assert alarm.bounding_box()["width"] == before["width"]
