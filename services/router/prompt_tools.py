"""What prompts are made with beyond a model's own template, one set for all of a router."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network

from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.settings import RouterSettings
from services.router.template_pool import TemplateLimits, TemplateWorkers, open_template_workers


@dataclass(frozen=True, slots=True)
class PromptTools:
    """Renders clients' templates and fetches images."""

    workers: TemplateWorkers
    fetcher: ImageFetcher


@asynccontextmanager
async def open_prompt_tools(settings: RouterSettings) -> AsyncIterator[PromptTools]:
    """Open the tools; nothing is started before it is used."""
    limits = TemplateLimits(
        wall_s=settings.template_timeout_s,
        memory_bytes=settings.template_memory_bytes,
        output_chars_max=settings.template_output_chars_max,
        workers_max=settings.template_workers_max,
    )
    fetcher = ImageFetcher(
        FetchRules(
            ports=frozenset(settings.fetch_ports),
            networks=tuple(map(ip_network, settings.fetch_networks)),
            ca_file=settings.fetch_ca_file,
            total_s=settings.fetch_timeout_s,
            image_bytes_max=settings.fetch_bytes_max,
            concurrent_max=settings.fetches_max,
        )
    )
    async with open_template_workers(limits) as workers:
        try:
            yield PromptTools(workers, fetcher)
        finally:
            fetcher.close()
