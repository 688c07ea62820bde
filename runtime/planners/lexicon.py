"""Words by what they are in a sentence, as far as the offline planner must know them: all other words are nouns or
belong to one."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ONE = _words("a an another each every this that one lone single")  # determiners of one thing
SINGLE = _words("a an")  # of one thing, whatever number follows
ARTICLES = (ONE - _words("one lone single")) | _words("the these those my your his her its our their someone's it's")
POINTING = _words("it him them itself himself herself themselves")  # back to a thing that was named
EMPTY = _words(
    "they he she we i you who someone somebody something anyone anything everyone everything nothing others other one "
    "ones this that these those there here each both all some any several many few more most such way what whom whose "
    "how why where when half other's eachother everywhere somewhere nowhere"
)  # no things by themselves

COLORS = _words(
    "red orange yellow green blue purple violet pink brown black white gray grey beige tan teal turquoise cyan "
    "magenta maroon navy golden silver gold cream crimson scarlet lavender olive ivory indigo blonde multicolored "
    "colorful colourful striped spotted checkered plaid polka-dot transparent pale dark light bright"
)
SIZES = _words(
    "big small large little tiny huge giant enormous long short tall wide narrow thick thin deep shallow high low "
    "full empty open closed old new young modern ancient vintage antique rusty shiny dirty clean wet dry broken fresh "
    "ripe raw hot cold warm soft hard rough smooth sharp fluffy furry hairy bald fat skinny slim chubby cute pretty "
    "beautiful ugly lovely lonely friendly happy sad angry sleepy sleeping hungry busy quiet loud fast slow heavy "
    "strong weak rich poor simple plain fancy elegant ornate nice good great bad real fake wild tame dead alive round "
    "square circular triangular rectangular oval oblong cubic spherical conical cylindrical pyramidal pentagonal "
    "hexagonal flat curved straight wooden metallic plastic ceramic woolen leather rubber several different various "
    "identical matching similar same single double lone adult baby male female siamese calico tabby delicate sweet "
    "juicy crisp crunchy prickly spiky bumpy lush dull sleek cozy dusty sturdy grassy sandy snowy rocky muddy cloudy "
    "sunny foggy rainy dim calm clear blurry colored grown highly fully freshly newly brightly lightly"
)
ADJECTIVES = COLORS | SIZES
MORE_ADJECTIVES = re.compile(r".{3,}(?:ful|ous|less|ish|ive|able|ible|colou?red|shaped|sized)$")

MEDIA = _words(
    "photo photos photograph photographs picture pictures image images painting drawing illustration render rendering "
    "sketch shot view scene closeup close-up snapshot portrait depiction print"
)  # "of" what is shown
VIEWS = _words("view scene shot closeup close-up depiction")  # things never
FRAMES = MEDIA - _words("painting drawing print") | _words("frame canvas")  # nothing is "in" these
GROUPS = _words(
    "group groups herd herds flock pack row rows line lines crowd team family trio variety collection assortment "
    "array number series total bunch lots plenty cluster set lot"
)  # "of" several things, which are meant
PLACES_OF = _words(
    "top side sides back front edge end ends middle center centre corner inside outside rest tip base bottom hood "
    "roof half halves part parts shade shadow seat lap reflection branches"
)  # "of" a thing, which is meant
AMOUNTS = _words("body patch stretch pile piece bit lot area layer bed expanse strip sheet") | GROUPS

# What fills a picture rather than stands in it: no box of its own.
SCENERY = _words(
    "background backdrop foreground distance bokeh lighting quality resolution style middle center centre "
    "surroundings sky air space sun sunlight moonlight sunset sunrise dawn dusk night day evening morning afternoon "
    "nighttime daytime time winter summer spring autumn weather rain snow fog mist smoke wind breeze storm darkness "
    "shade shadow shadows sunshine ground floor flooring carpet grass lawn dirt sand mud soil earth gravel pavement "
    "asphalt concrete sidewalk sidewalks street streets road roads roadside roadway highway lane path trail driveway "
    "alley curb crosswalk intersection parking track tracks railroad rail rails railway runway tarmac bridge dock "
    "pier harbor marina port field fields pasture meadow meadows plain plains savanna savannah prairie desert beach "
    "shore shoreline coast sea ocean lake river stream pond creek water waters waves hill hills hillside mountain "
    "mountains mountainside valley canyon cliff cliffs slope forest woods jungle wilderness woodland countryside "
    "landscape horizon island enclosure enclosures pen zoo farm ranch park playground garden yard backyard courtyard "
    "patio deck porch balcony lot garage barn stable station airport market store shop mall restaurant cafe bar "
    "office library school classroom gym stadium studio factory warehouse city town village neighborhood downtown "
    "area place spot location scenery room rooms bedroom bathroom kitchen kitchens bathrooms restroom hallway hall "
    "lobby living lounge basement attic closet corner corners wall walls ceiling fence fences fencing barrier front "
    "back side sides end edge top bottom way line row order formation position positions pose motion captivity focus "
    "mid-air midair flight use shape form bloom love works nap walk stroll look glance ride swim tour selfie speech "
    "race trip break food liquid ketchup mustard frosting icing vegetation greenery foliage outdoors indoors outside "
    "inside nature wild building buildings skyscraper skyscrapers tower towers"
)
LIGHTS = _words("light lights")  # scenery, but for lamps
LAMPS = _words("traffic street stop warning ceiling pendant flash head tail night lamp desk string christmas")
SURFACES = _words(
    "window windows windowsill windowsills sill ledge ledges branch branches tree-branch limb limbs twig hook hooks "
    "counter counters countertop rack racks pole poles mirror mirrors stripe stripes camera counter-top tabletop "
    "banister surface"
)  # scenery where something is in, on, at or next to them
MIRRORS = _words("mirror mirrors reflection")  # in which things are seen, not put
CLOTHES = _words(
    "clothes clothing shirt shirts hat hats dress dresses suit suits uniform uniforms pants jacket jackets coat coats "
    "costume costumes gear outfit outfits pajamas shorts sweater sweaters scarf"
)  # in which people are
COVERS = _words(
    "blanket blankets quilt sheet sheets bedspread comforter tablecloth cloth bedding curtain curtains"
)  # of a bed that "has" them
BACKDROPS = _words(
    "trees tree bushes bush plants rocks rock stones buildings houses clouds leaves branches mountains weeds shrubs "
    "flowers bars boulders logs wires shelves shrubbery cupboards cabinets cabinetry hay straw blankets sheets covers "
    "wood glass metal stone brick tiles trash"
)  # scenery where they come along bare
ABSTRACT = _words(
    "art artstation 4k 8k hd uhd masterpiece cinematic detailed high-quality photorealistic realistic render sharp "
    "vivid fun love ease peace joy beauty silence harmony color colors colour colours"
)
PARTS = _words(
    "tail tails head heads mouth mouths eye eyes ear ears hair fur face faces paw paws leg legs foot feet arm arms "
    "hand hands wing wings nose beak tongue neck tummy belly stomach skin teeth back backs body bodies necks fingers "
    "finger whiskers feathers horns trunk trunks mane headboard lid lids lap collar leash"
)  # of what has them

ING_NOUNS = _words(
    "building painting drawing ring king string wing ceiling railing thing spring sling swing earring clothing "
    "pudding awning icing frosting lightning evening morning wedding bedding stuffing siding crossing landing "
    "offspring clearing covering sapling duckling gosling dumpling herring viking sibling darling topping wrapping "
    "coating shoestring ceilings rings keyring engraving carving viewing lighting something anything nothing "
    "everything during"
)  # end like verbs
ING_MODIFIERS = _words(
    "dining parking cutting rocking swimming washing sewing shopping fishing wedding baking frying mixing measuring "
    "sleeping sailing racing cooking chopping changing boxing bowling writing playing vending walking hiking running "
    "climbing flying rolling serving living waiting folding sliding ironing drinking skating riding landing steering"
)  # before a noun: "dining table"
ED_NOUNS = _words("bed shed sled seed weed reed breed red speed moped steed feed deed need tweed hundred bobsled")
LY_WORDS = _words(
    "fly butterfly dragonfly family jelly lily belly bully trolley holly assembly doily lonely lovely friendly ugly "
    "silly curly woolly early elderly prickly wobbly bubbly sparkly chilly hilly smelly wrinkly jolly july italy "
    "supply ally firefly lady-fly gully rally fully freshly newly brightly lightly highly"
)  # no adverbs, or adverbs of an adjective
WITH_PARTICLES = _words("run beat worn torn blown made grown shut lit washed")  # "a run down bus"
AUXILIARIES = _words(
    "is isn't are aren't was were be been being am has have had having do does did doing done can could will would "
    "shall should may might must 's"
)
VERBS = _words(
    "sat sits sit sitting siting stood stands standing lay lays lies lying laying laid rests rested resting flew "
    "flies swam swims ran drove drives rode rides ate eats hung hangs slept sleeps sang sings fell fought flung kept "
    "keeps grew grows shone shines wore wears went goes came comes took takes gave gives made makes met meets bore "
    "bought brought brings caught chose crept dug drew drank drinks found forgot froze got gets hid hides knew knows "
    "led leads lent lost paid said says sent sends shook slid spoke speaks spent spun sprang stole stuck stung strode "
    "struck swept swung swings taught teaches threw throws told tells tore won wove wrote writes became becomes began "
    "begins dove wound felt fed left built held holds hold seen shown put lit looks stares gazes grazes floats leans "
    "perches waits jumps leaps carries shows contains contain features overlooks surrounds poses peers peeks "
    "approaches climbs chases catches pulls covers covering seems appears grazing reads reading looking facing "
    "running flying walking sleeping jumping hanging floating leaning playing holding wearing carrying riding eating "
    "drinking watching swimming hidden covered filled parked stacked placed located positioned arranged attached "
    "perched mounted surrounded topped seated situated lined curled curls sees see stays sprawls lounges lands smiles "
    "plays talks laughs feels provides uses stretches bathes cleans licks licking taking docked docks"
)
BASES = _words(
    "sit stand lie lay sleep rest graze walk run fly swim float hang lean wait play eat drink look watch stare gaze "
    "roam feed grow grazed perch pose drive ride jump gather have appear hold wear carry"
)  # of verbs, as several things do them
ADVERBS = _words(
    "together directly immediately just nearby also too already very quite still only almost apart away ahead forward "
    "backwards sideways upright outdoors indoors overhead once then now again half-way halfway asleep awake inward "
    "straight alone upside close-by near-by"
)
