"""Stand-ins for language models, one for each agent of the research pipeline.

They read the conversation as a model would. What they say is taken from it, and nothing is made up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.messages import ModelMessage, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo
from stand_in import Reply, answer, call, last_prompt, offers, stand_in

from research import briefing
from research.briefing import Briefing, Finding
from research.result import Result
from research.sentences import sentences
from research.topics import topics
from research.words import content_words

SEARCH_TOOL = "search"
MAX_BULLETS = 12
MAX_TITLE_CHARACTERS = 80

_RESULTS = TypeAdapter(list[Result])


def _plan(messages: Sequence[ModelMessage], info: AgentInfo) -> Reply:
    queries = topics(last_prompt(messages))
    reason = (
        "The question has one topic, so one search will do."
        if len(queries) == 1
        else f"The question has {len(queries)} topics, and each is searched for by itself."
    )
    return answer({"queries": queries, "reason": reason}, "\n".join(queries), messages, info)


def _search(messages: Sequence[ModelMessage], info: AgentInfo) -> Reply:
    query = last_prompt(messages)
    results = _results(messages)
    if results is None and offers(info, SEARCH_TOOL):
        return call(SEARCH_TOOL, {"query": query}, messages)
    findings = [
        Finding(result.source, result.title, quote)
        for result in results or []
        if (quote := _quote(result.excerpt, query))
    ]
    output = {"query": query, "findings": [asdict(finding) for finding in findings]}
    text = "\n".join(f"{finding.quote} ({finding.source})" for finding in findings)
    return answer(output, text or "Nothing was found.", messages, info)


def _results(messages: Sequence[ModelMessage]) -> list[Result] | None:
    """Returns what the search of this turn found; None if there was no search yet."""
    results: list[Result] | None = None
    for message in messages:
        for part in message.parts:
            match part:
                case UserPromptPart():
                    results = None
                case ToolCallPart(tool_name=name) if name == SEARCH_TOOL:
                    results = []
                case ToolReturnPart(tool_name=name, outcome="success") if name == SEARCH_TOOL:
                    results = _read_results(part.model_response_str())
    return results


def _read_results(text: str) -> list[Result]:
    try:
        return _RESULTS.validate_json(text)
    except ValidationError:
        return []


def _quote(excerpt: str, query: str) -> str:
    """Returns the sentence of the excerpt that has the most of the query's words."""
    words = {word.casefold() for word in content_words(query)}

    def shared(sentence: str) -> int:
        return len(words & {word.casefold() for word in content_words(sentence)})

    return max(sentences(excerpt), key=shared, default="")


def _write(messages: Sequence[ModelMessage], info: AgentInfo) -> Reply:
    brief = briefing.read(last_prompt(messages))
    cited = _cited(brief)
    output = {
        "title": _title(brief.question),
        "summary": _summary(brief, cited),
        "bullets": [
            {"text": quote, "sources": [finding.source for finding in findings]}
            for quote, findings in cited.items()
        ],
        "sources": _sources(cited),
        "partial": brief.failed > 0,
    }
    lines = [f"- {quote} ({findings[0].source})" for quote, findings in cited.items()]
    return answer(output, "\n".join([_summary(brief, cited), *lines]), messages, info)


def _cited(brief: Briefing) -> dict[str, list[Finding]]:
    """Returns the quotes that the report has, with who says so.

    The best of each search comes first, then the second of each, so that none is crowded out.
    """
    cited: dict[str, list[Finding]] = {}
    longest = max((len(searched.findings) for searched in brief.searched), default=0)
    for place in range(longest):
        for searched in brief.searched:
            for finding in searched.findings[place : place + 1]:
                known = cited.get(finding.quote)
                if known is None and len(cited) < MAX_BULLETS:
                    cited[finding.quote] = [finding]
                elif known is not None and all(one.source != finding.source for one in known):
                    known.append(finding)
    return cited


def _sources(cited: Mapping[str, Sequence[Finding]]) -> list[dict[str, str]]:
    titles: dict[str, str] = {}
    for findings in cited.values():
        for finding in findings:
            titles.setdefault(finding.source, finding.title)
    return [{"source": source, "title": title} for source, title in titles.items()]


def _title(question: str) -> str:
    title = " ".join(question.split()).rstrip("?!. ")
    if len(title) > MAX_TITLE_CHARACTERS:
        title = title[:MAX_TITLE_CHARACTERS].rsplit(" ", 1)[0] + " …"
    return title[:1].upper() + title[1:] or "No question"


def _summary(brief: Briefing, cited: Mapping[str, Sequence[Finding]]) -> str:
    failed = f"{brief.failed} of {brief.searches} searches failed"
    if brief.failed and brief.failed >= brief.searches and not cited:
        return f"{failed}, so nothing is known about this question: it could not be searched for."
    missing = f" {failed}, so this report is partial." if brief.failed else ""
    if not cited:
        return f"The documents say nothing about this question.{missing}"
    sources = len(_sources(cited))
    says = "One source says" if sources == 1 else f"{sources} sources say"
    return f"{says} something about this question. First of all: {next(iter(cited))}{missing}"


planner = stand_in(_plan)
searcher = stand_in(_search)
writer = stand_in(_write)
