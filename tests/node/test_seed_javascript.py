"""The third seed's JavaScript, word for word, as its reader would run it."""

from pathlib import Path

from tests.e2e import seeds
from tests.fakes.openai_model import OpenAiModel
from tests.fixtures.gateway import OpenSite, Wish
from tests.node.conftest import node


async def test_bud_javascript(open_site: OpenSite, model: OpenAiModel, tmp_path: Path) -> None:
    site = await open_site(Wish(catalogue=seeds.catalogue(model)))
    key = await site.key(dialect="bud")
    script = seeds.javascript()
    for old, new in {"http://localhost:3000": site.url, "YOUR_API_KEY": key.secret}.items():
        assert old in script
        script = script.replace(old, new)
    sample = tmp_path / "sample.mjs"
    sample.write_text(script)

    spoken = await node(str(sample), variables={})

    assert seeds.SPOKEN == spoken
    (record,) = await site.settled(key, 1)
    assert "completed" == record.outcome
