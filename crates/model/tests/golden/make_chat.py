"""Makes `chat.json`: small chat templates, each with one trap, and what transformers writes for them.

    python crates/model/tests/golden/make_chat.py

Needs transformers 4.57 and jinja2. Every entry holds `about`, `template`, `messages`, `add_generation_prompt` and `text`;
`text` is null where the template refuses the conversation, with the refusal in `refusal`.
"""

import json
from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

TALK = [
    {"role": "system", "content": "  Be <brief> & \"kind\". "},
    {"role": "user", "content": "What is 2+2?\nShow ünïcode: 🙂"},
    {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
    {"role": "user", "content": "Thanks"},
]
LOOP = "{%- for message in messages %}"
END = "{%- endfor %}"

TEMPLATES = {
    "blocks are trimmed and the template's last newline is dropped":
        "{% for message in messages %}\n    {% if message.role == 'user' %}\n[{{ message.content }}]\n    {% endif %}\n{% endfor %}\nend\n",
    "the assistant's words are marked":
        LOOP + "\n{%- if message.role == 'assistant' %}\n  {%- generation %}\n  A: {{ message.content }}|\n  {%- endgeneration %}\n"
        "{%- else %}\n{{ message.role }}: {{ message.content }}\n{%- endif %}\n" + END,
    "the marks have no dashes":
        "{% for message in messages %}{% if message.role == 'assistant' %}\n{% generation %}\n{{ message.content }}\n"
        "{% endgeneration %}\nafter{% endif %}{% endfor %}",
    "json as Python writes it": LOOP + "{{ message | tojson }}\n" + END,
    "json over several lines": "{{ messages[:2] | tojson(indent=2) }}",
    "json without what is not ASCII": "{{ {'b': messages[1].content, 'a': [1, 2.5, none, true]} | tojson(ensure_ascii=true, sort_keys=true) }}",
    "json with separators of its own": "{{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}",
    "methods of strings":
        LOOP + "{{ message.content.strip() | upper }}/{{ message.content.split('</think>')[-1].lstrip('\\n') }}/"
        "{{ message.role.startswith('as') }}/{{ message.content.replace('2', 'two').rstrip('s').title() }}/"
        "{{ message.content.removeprefix('Th') }}/{{ message.content.partition('+')[2] }}/{{ message.content.rsplit('n', 1)[0] }}\n" + END,
    "methods of mappings": LOOP + "{% for key, value in message.items() %}{{ key }}={{ value | length }};{% endfor %}{{ message.get('name', 'nobody') }}\n" + END,
    "loops that skip and stop":
        LOOP + "{% if loop.first %}{% continue %}{% endif %}{% if loop.index0 == 3 %}{% break %}{% endif %}{{ loop.index }}:{{ message.role }};" + END,
    "the last turn is found backwards":
        "{%- set ns = namespace(last=-1, tool=true) %}{%- for message in messages[::-1] %}{%- set index = (messages | length - 1) - loop.index0 %}"
        "{%- if ns.tool and message.role == 'user' %}{%- set ns.tool = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}{{ ns.last }}{{ ns.tool }}",
    "the system's turn is taken out":
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}{%- set rest = messages[1:] %}"
        "{%- else %}{%- set system = '' %}{%- set rest = messages %}{%- endif %}<<{{ system }}>>{{ rest | map(attribute='role') | join(',') }}",
    "truth and nothing are spelled as in Python": "{{ messages[0].role == 'system' }} {{ none }} {{ 1 == 2 }} {{ missing }} {{ 3 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }}",
    "tools and documents are there and are none":
        "{{ tools is defined }}{{ tools is none }}{{ documents is none }}{% if tools %}tools{% else %}no tools{% endif %}{{ xyz is defined }}",
    "tokens by name": "{{ bos_token }}" + LOOP + "{{ message.content + eos_token }}" + END + "{{ pad_token }}{{ unk_token is defined }}",
    "macros": "{%- macro turn(role, text='') -%}<{{ role }}>{{ text | trim }}</{{ role }}>{%- endmacro -%}" + LOOP + "{{ turn(message.role, message.content) }}" + END,
    "conditions inline": LOOP + "{{ 'U' if message.role == 'user' else 'O' }}{{ '\\n' if not loop.last }}" + END + "{{ '>' if add_generation_prompt else '' }}",
    "neighbours in a loop": LOOP + "{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ loop.nextitem.role if loop.nextitem is defined else '-' }} " + END,
    "roles must alternate":
        LOOP + "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate\nuser/assistant') }}{% endif %}" + END,
    "content of several kinds":
        LOOP + "{% if message.content is string %}{{ message.content | length }}{% elif message.content is iterable %}many{% endif %}" + END,
    "filters": "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ (messages | last).content | default('x') }} {{ 'a,b' | replace(',', ';') | capitalize }} {{ '%s-%d' | format('n', 3) }} {{ [3, 1, 2] | sort | first }} {{ 'x' ~ 1 ~ 'y' }} {{ messages | length }} {{ 'ab' * 2 }} {{ 'b' in 'abc' }}",
    "white space is controlled": "a  {%- if true -%}  b  {%- endif -%}  c\n{# a remark #}\nd\n  {%+ if true %} e{% endif %}\n",
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def main():
    cases = []
    for about, template in TEMPLATES.items():
        for add in [False, True]:
            case = {"about": about, "template": template, "messages": TALK, "add_generation_prompt": add, "text": None}
            try:
                rendered, _ = render_jinja_template(
                    conversations=[TALK], chat_template=template, add_generation_prompt=add, **TOKENS)
                case["text"] = rendered[0]
            except jinja2.exceptions.TemplateError as error:
                case["refusal"] = str(error)
            cases.append(case)
    path = Path(__file__).parent / "chat.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
    print(len(cases), "conversations")


main()
