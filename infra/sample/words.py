"""The words the sample's invented people, places and products are made of."""

FIRST_NAMES = (
    "Ada", "Agnès", "Amara", "Anders", "Aoife", "Ayşe", "Björn", "Bruno", "Camila", "Carlos",
    "Chidi", "Chloé", "Clara", "Dalia", "Daniel", "Dmitri", "Eino", "Elif", "Emre", "Erik",
    "Farah", "Fiona", "François", "Freya", "Gabriel", "Greta", "Hanna", "Hiro", "Hugo", "Ines",
    "Ingrid", "Isabel", "Ivan", "Jana", "Jonas", "José", "Júlia", "Kaito", "Karin", "Kofi",
    "Laura", "Leila", "Liam", "Lucía", "Łukasz", "Maeve", "Marek", "Márton", "Mei", "Mina",
    "Nadia", "Niklas", "Nora", "Olga", "Omar", "Pablo", "Petra", "Priya", "Quentin", "Rania",
    "Renée", "Rosa", "Samuel", "Sara", "Sören", "Tariq", "Teresa", "Tomáš", "Ulla", "Vera",
    "Viktor", "Wanda", "Yara", "Yusuf", "Zoë", "Zuzana",
)  # fmt: skip
LAST_NAMES = (
    "Abbott", "Adeyemi", "Åkesson", "Almeida", "Andersen", "Bakker", "Baranov", "Becker",
    "Bianchi", "Bouchard", "Brennan", "Castillo", "Černý", "Cohen", "Costa", "Dahl", "Demir",
    "Dubois", "Eriksen", "Esposito", "Fernández", "Fischer", "Fontaine", "García", "Großmann",
    "Haddad", "Halvorsen", "Horváth", "Ibrahim", "Ito", "Jansen", "Jensen", "Kaya", "Keller",
    "Kowalski", "Kruger", "Larsen", "Lefèvre", "Lindqvist", "Lopes", "Maher", "Marino", "Mensah",
    "Moreau", "Müller", "Nakamura", "Novak", "Nuñez", "O'Brien", "Okafor", "Oliveira", "Østby",
    "Papadakis", "Pereira", "Petrov", "Quigley", "Rahman", "Ramos", "Rossi", "Sánchez", "Schäfer",
    "Sharma", "Silva", "Sørensen", "Suzuki", "Tanaka", "Thorne", "Toth", "Ueda", "Vargas",
    "Virtanen", "Weber", "Whitaker", "Xu", "Y\u0131lmaz", "Young", "Zając", "Zimmermann",
)  # fmt: skip
PLACES = (
    ("Amsterdam", "Netherlands"), ("Athens", "Greece"), ("Barcelona", "Spain"),
    ("Bergen", "Norway"), ("Berlin", "Germany"), ("Bologna", "Italy"), ("Brno", "Czechia"),
    ("Bruges", "Belgium"), ("Budapest", "Hungary"), ("Cork", "Ireland"), ("Dakar", "Senegal"),
    ("Galway", "Ireland"), ("Gdańsk", "Poland"), ("Genève", "Switzerland"), ("Graz", "Austria"),
    ("İzmir", "Türkiye"), ("Köln", "Germany"), ("Kyoto", "Japan"), ("Leeds", "United Kingdom"),
    ("Lisboa", "Portugal"), ("Łódź", "Poland"), ("Lyon", "France"), ("Málaga", "Spain"),
    ("Malmö", "Sweden"), ("Montréal", "Canada"), ("München", "Germany"), ("Nantes", "France"),
    ("Oulu", "Finland"), ("Porto", "Portugal"), ("São Paulo", "Brazil"), ("Tallinn", "Estonia"),
    ("Turku", "Finland"), ("Valparaíso", "Chile"), ("Zürich", "Switzerland"),
)  # fmt: skip
MAIL_DOMAINS = ("example.com", "example.org", "example.net")

WINDOWS_NAMES = (
    "Björn Ångström", "José Peña", "Zoë Gößling", "Renée Lefèvre", "Søren Kjær",
    "Siobh\u00e1n O\u2019Dwyer", "Fran\u00e7ois \u0152uvray",
)  # fmt: skip
"""Names Windows-1252 can hold; the last two hold characters that latin-1 has not."""
EMOJI_NAMES = ("Zoë 🌻 Sommer", "Niko 🚲 Virtanen", "Mei 👩\u200d🔬 Tanaka", "Ana 🇵🇹 Lopes")
RIGHT_TO_LEFT_NAMES = (
    "مريم الحداد",
    "يوسف قاسم",
    "נועה לביא",
    "ליאור כהן",
)

ADJECTIVES = (
    "Amber", "Arctic", "Bright", "Classic", "Compact", "Coral", "Deluxe", "Everyday", "Folding",
    "Golden", "Handy", "Ivory", "Jolly", "Little", "Merry", "Nimble", "Olive", "Pocket", "Quiet",
    "Rustic", "Silver", "Sturdy", "Travel", "Velvet", "Wild",
)  # fmt: skip
NOUNS = {
    "books": ("Atlas", "Cookbook", "Diary", "Field Guide", "Novel", "Songbook"),
    "clothing": ("Cardigan", "Gloves", "Jacket", "Rain Hat", "Scarf", "Socks"),
    "electronics": ("Charger", "Desk Lamp", "Headphones", "Keyboard", "Radio", "Webcam"),
    "garden": ("Bird Bath", "Hose", "Planter", "Rake", "Trowel", "Watering Can"),
    "grocery": ("Coffee", "Honey", "Marmalade", "Olive Oil", "Oat Biscuits", "Tea"),
    "toys": ("Kite", "Marbles", "Puzzle", "Spinning Top", "Train Set", "Yo-yo"),
}
CHANNELS = ("store", "web", "phone")
DISCOUNTS = ("0.00", "0.00", "0.00", "0.00", "0.05", "0.10", "0.15", "0.25")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Written out, because strftime answers in the machine's language."""

PLAIN_LETTERS = str.maketrans(
    {
        "á": "a", "ä": "a", "å": "a", "ã": "a", "ą": "a", "ç": "c", "č": "c", "é": "e", "è": "e",
        "ë": "e", "í": "i", "\u0131": "i", "ł": "l", "ñ": "n", "ń": "n", "ó": "o", "ö": "o",
        "ø": "o", "š": "s", "ş": "s", "ß": "ss", "ú": "u", "ü": "u", "ý": "y", "'": "", " ": "",
    }
)  # fmt: skip
