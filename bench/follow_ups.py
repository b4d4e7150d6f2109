"""How a judge of relevance should be shown a query that hangs on the turn before it.

    python bench/follow_ups.py [reward|evaluator]

Twenty follow-up questions and twelve changes of topic, each with the statement that it asks for:
how often that statement comes first or in the first three, and how relevant the judge calls it and
the others.
"""

import sys

import numpy as np

from apc_cli.models.judging.scorer import Scorer

ALICE = [
    "Alice is a 26-year-old professional guitarist.",
    "Alice has long, wavy dark brown hair and deep green eyes.",
    "Alice usually dresses in flowing maxi dresses, or in jeans with vintage band tees.",
    "Alice is introverted and reflective by nature.",
    "Alice prefers intimate settings to large crowds.",
    "As a musician, Alice plays regularly at local venues near her home.",
    "Alice teaches guitar, which gives her a steady income between shows.",
    "Alice's style is indie-folk, shaped by the sounds of the coast.",
    "Away from the stage, Alice reads poetry and classic novels.",
    "Alice sketches in notebooks, which she fills with drawings of the shoreline.",
    "Alice spends most of her free evenings with a group of artistic friends.",
    "Alice dreams of recording an album of her own.",
    "Alice wants the album to reach people who feel misunderstood.",
]
BOB = [
    "Bob is known for his tailored suit, his round glasses and his trimmed beard.",
    "Students regard Bob's courses as some of the hardest at the university.",
    "Bob holds extra office hours each week for those who struggle.",
    "Bob speaks three languages: English, German and Latin.",
    "Bob concentrates on the ethics of artificial intelligence in his research.",
    "Bob has published papers on machine translation.",
    "Bob mentors a number of PhD students and reads every draft they send him.",
    "Bob is currently writing a textbook on natural language processing.",
    "Bob reports every case of plagiarism.",
    "Bob's dry wit often surprises new students.",
    "Bob plays chess and attends the opera.",
    "Bob drinks a great deal of coffee.",
]
FOLLOW_UPS = [
    ("Alice", "Do you make music?", "Yes, I play the guitar.", "And where do you do that?", 5),
    ("Alice", "Do you have another job?", "Yes, I give lessons.", "Does that pay well?", 6),
    ("Alice", "What do you write?", "Songs about the sea.", "What style are they in?", 7),
    ("Alice", "Do you like books?", "I do, very much.", "Which kinds?", 8),
    ("Alice", "Do you draw?", "Now and then, yes.", "What of, mostly?", 9),
    ("Alice", "Do you have friends in town?", "A few good ones.", "How often do you see them?", 10),
    ("Alice", "What is your dream?", "To make something that lasts.", "A record, perhaps?", 11),
    ("Alice", "You dream of making an album?", "Yes.", "Who should hear it?", 12),
    ("Alice", "Tell me about your hair.", "It is long and wavy.", "What colour is it?", 1),
    ("Alice", "Do you like parties?", "Not so much.", "Why not? Too many people?", 4),
    ("Alice", "Are you an outgoing person?", "Oh no.", "How are you, then?", 3),
    ("Bob", "Do you teach?", "Yes, at the university.", "Are they hard, your courses?", 1),
    ("Bob", "My friend failed your course.", "I am sorry.", "Can he get help from you?", 2),
    ("Bob", "Do you speak German?", "I do.", "Any others?", 3),
    ("Bob", "What do you research?", "Machines and language.", "Have you published on it?", 5),
    ("Bob", "Are you writing something?", "I am.", "What is it about?", 7),
    ("Bob", "A student copied his essay.", "That is bad.", "What will you do about it?", 8),
    ("Bob", "What do you do in the evening?", "I rest.", "Any games?", 10),
    ("Bob", "Do you drink tea?", "No, never.", "What then?", 11),
    ("Bob", "Do you supervise students?", "Several.", "Do you read what they send you?", 6),
]
NEW_TOPICS = [
    ("Alice", "Do you like books?", "I do, poetry most of all.", "How old are you?", 0),
    ("Alice", "Do you make music?", "Yes, I play the guitar.", "What do you like to wear?", 2),
    ("Alice", "What do you dream of?", "An album.", "What colour are your eyes?", 1),
    ("Alice", "What colour is your hair?", "Dark brown.", "What do you read?", 8),
    ("Alice", "Where do you live?", "By the coast.", "Do you give guitar lessons?", 6),
    ("Alice", "How old are you?", "Twenty-six.", "Do you fill notebooks with sketches?", 9),
    ("Bob", "Do you drink coffee?", "All day long.", "Which languages do you speak?", 3),
    ("Bob", "Which languages do you speak?", "Three.", "What do you wear to work?", 0),
    ("Bob", "Do you play chess?", "I do.", "Are your courses difficult?", 1),
    ("Bob", "Are your courses hard?", "Some say so.", "Do you like the opera?", 10),
    ("Bob", "What do you wear?", "A suit.", "Do you have a sense of humour?", 9),
    ("Bob", "Do you have humour?", "A dry one.", "What book are you working on?", 7),
]
SHOWN = {
    "query alone": "{query}",
    "user's last words, query": "{user} {query}",
    "user's last words, reply, query": "{user} {reply} {query}",
    "as a transcript": "{user}\n{name}: {reply}\nUser: {query}",
}


def main() -> None:
    pair = sys.argv[1] if len(sys.argv) > 1 else "reward"
    scorer = Scorer.load(relevance=f"judge:{pair}/relevance", nli=f"judge:{pair}/nli")
    personas = {"Alice": ALICE, "Bob": BOB}
    for shown, form in SHOWN.items():
        for kind, rows in (("follow-ups", FOLLOW_UPS), ("new topics", NEW_TOPICS)):
            ranks, right, others = [], [], []
            for name, user, reply, query, wanted in rows:
                asked = form.format(user=user, reply=reply, query=query, name=name)
                found = scorer.relevance(name, personas[name], asked)
                ranks.append(int((found > found[wanted]).sum()))
                right.append(found[wanted])
                others.append(np.delete(found, wanted).mean())
            first, three = (np.mean(np.array(ranks) < n) for n in (1, 3))
            figures = f"P(wanted) {np.mean(right):.2f}, P(others) {np.mean(others):.2f}"
            print(f"{pair}, {shown}, {kind}: first {first:.0%}, in three {three:.0%}, {figures}")


if __name__ == "__main__":
    main()
