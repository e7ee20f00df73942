"""What the made-up company sells and shows: every event text that a user can leave behind.

Texts belong to groups. A group with loadings is a theme: the hidden traits of a user raise or lower how
often it turns up. A group without is everyday life and says nothing about any trait. A theme speaks through
dozens of texts in all four sources, which share words but never one telling word, because a text is made of
one of many nouns of the theme or of a brand whose name means nothing. Categories, actions, page roots and
channels mix themes and everyday life, as a company's own columns do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

TRAITS = (
    "nature",
    "play",
    "commute",
    "wealth",
    "gourmet",
    "cinephile",
    "busy",
    "family",
    "sport",
    "youth",
    "thrift",
    "learning",
)
SOURCES = ("bills", "mini_program_logs", "page_paths", "searches")
COLUMNS = {
    "bills": ("merchant", "category", "item", "channel"),
    "mini_program_logs": ("program", "action"),
    "page_paths": ("path",),
    "searches": ("query",),
}
"""The columns that make an event's text, per source."""

SLOTS = (7.2, 12.1, 14.6, 18.6, 21.8)
"""Hours (UTC) at which a shop's custom starts; it lasts 1.3 hours, so a text keeps its part of the day."""
TEXTS = {"bills": 26, "mini_program_logs": 18, "page_paths": 20, "searches": 20}
"""Distinct texts of a group in each source."""
MODIFIERS = (
    "set",
    "large",
    "classic",
    "monthly",
    "family pack",
    "special",
    "new",
    "second",
    "gift",
    "standard",
    "plus",
    "refill",
    "weekend",
    "members",
    "mini",
    "double",
)
ITEMS = (
    "voucher",
    "order",
    "package A",
    "package B",
    "members card",
    "top-up",
    "service fee",
    "starter",
    "bundle",
    "deposit",
    "renewal",
    "extra",
    "basic",
    "deluxe",
    "single",
    "annual",
)
LEAVES = ("coupons", "list", "detail", "rank", "mine", "history", "live", "hot", "guide", "today")
SUFFIXES = ("near me", "coupon", "price", "reviews", "how to", "best", "cheap", "opening hours", "app", "refund")
SYLLABLES = (
    "lu",
    "ha",
    "ke",
    "tian",
    "yu",
    "mo",
    "fei",
    "ning",
    "bao",
    "xi",
    "lan",
    "qiu",
    "shan",
    "do",
    "ze",
    "ru",
    "pin",
    "wei",
    "jo",
    "ma",
    "sen",
    "li",
    "to",
    "kai",
    "nuo",
    "yi",
    "cheng",
    "duo",
    "mei",
    "ran",
    "shu",
    "guo",
    "pa",
    "zhi",
    "lo",
    "bei",
    "hui",
    "qin",
    "sa",
    "you",
    "rou",
    "tan",
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """A theme (with loadings) or a part of everyday life (without)."""

    name: str
    loadings: dict[str, float] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    """Weight of the group within its kind, per source; 1 where not named."""
    category: str
    root: str
    action: str
    channel: str
    price: float
    """Typical amount of a bill, CNY."""
    nouns: str
    queries: str
    """Chinese queries."""


THEMES = (
    Group(
        name="forest",
        loadings={"nature": 1.4, "thrift": 0.4},
        share={"page_paths": 0.6},
        category="services home shopping",
        root="green life play me",
        action="claim check-in",
        channel="mini-program app",
        price=12,
        nouns="sapling,energy bottle,poplar,saxaul,green steps,carbon diary,seed,watering,mangrove,reserve,"
        "acorn,leaf badge,soil,planting day",
        queries="种树,绿色能量,梭梭树,步数捐,碳账户",
    ),
    Group(
        name="games",
        loadings={"play": 1.4, "youth": 0.5},
        share={"bills": 0.6},
        category="digital entertainment shopping",
        root="play market me",
        action="open claim",
        channel="app subscription",
        price=60,
        nouns="diamonds,season pass,skin,gold coins,arena ticket,loot box,gems,starter pack,battle card,"
        "controller,guild,hero,dragon egg,speed boost",
        queries="皮肤,充值优惠,攻略,赛季通行证,开黑",
    ),
    Group(
        name="delivery",
        loadings={"gourmet": 1.0, "busy": 1.0},
        share={"bills": 0.6},
        category="dining groceries services shopping",
        root="food market me",
        action="order claim",
        channel="app mini-program",
        price=32,
        nouns="fried rice,beef noodles,dumplings,chicken rice,spicy pot,congee,salad bowl,skewers,lunch box,"
        "roast duck rice,wonton,curry,crayfish,burger",
        queries="外卖红包,炒饭,麻辣烫,夜宵,盖浇饭",
    ),
    Group(
        name="cinema",
        loadings={"cinephile": 1.57, "youth": 0.45},
        category="entertainment shopping",
        root="play life",
        action="book browse",
        channel="app scan",
        price=45,
        nouns="popcorn,matinee,premiere,imax hall,couple seat,director cut,trailer,film poster,midnight show,"
        "box office,screening,actor interview,cola combo,3d glasses",
        queries="电影票,热映,影评,午夜场,上映",
    ),
    Group(
        name="streaming",
        loadings={"cinephile": 1.23, "play": 0.56, "family": -0.45},
        category="digital entertainment",
        root="play me",
        action="open browse",
        channel="subscription app",
        price=22,
        nouns="series,episode,drama,documentary,anime,subtitle,playlist,box set,variety show,reality show,"
        "season finale,concert stream,cast list,4k plan",
        queries="追剧,动漫,会员月卡,纪录片,综艺",
    ),
    Group(
        name="metro",
        loadings={"commute": 1.57, "thrift": 0.45},
        category="transport services",
        root="life go",
        action="check-in open",
        channel="scan card",
        price=12,
        nouns="line 2,turnstile,bus code,transfer,day pass,platform,route map,last train,stored value,tram,"
        "interchange,ride card,peak hour,ferry",
        queries="地铁线路,公交码,末班车,换乘,乘车码",
    ),
    Group(
        name="hailing",
        loadings={"busy": 1.01, "wealth": 0.67, "commute": -0.78},
        category="travel services",
        root="go life",
        action="order pay",
        channel="app card",
        price=30,
        nouns="express car,premium car,airport ride,carpool,driver tip,night ride,pickup point,chauffeur,"
        "ride invoice,six seater,surge fee,taxi,long ride,drop-off",
        queries="打车,代驾,顺风车,专车,发票",
    ),
    Group(
        name="car",
        loadings={"commute": -1.34, "family": 0.67},
        category="transport services home",
        root="go me",
        action="pay book",
        channel="scan card",
        price=130,
        nouns="petrol 95,parking,car wash,toll,engine oil,tyre,insurance renewal,charging pile,wiper,dash cam,"
        "brake pads,fines,inspection,child seat",
        queries="加油优惠,停车,洗车,年检,轮胎",
    ),
    Group(
        name="luxury",
        loadings={"wealth": 1.57},
        category="shopping finance",
        root="market me",
        action="browse book",
        channel="card app",
        price=95,
        nouns="silk scarf,leather bag,watch strap,perfume,cashmere,jewellery,golf round,private dining,"
        "wine cellar,lounge,concierge,spa suite,tailoring,art print",
        queries="名表,手袋,真丝,定制,红酒",
    ),
    Group(
        name="discount",
        loadings={"thrift": 1.46, "wealth": -0.78},
        category="groceries shopping",
        root="market food",
        action="claim share",
        channel="mini-program scan",
        price=40,
        nouns="group buy,flash sale,clearance,coupon pack,outlet socks,bulk tissue,one yuan deal,lucky draw,"
        "red packet,second hand,bargain box,points swap,free trial,day-old bread",
        queries="拼团,秒杀,特价,优惠券,二手",
    ),
    Group(
        name="restaurant",
        loadings={"gourmet": 1.23, "wealth": 0.67},
        category="dining entertainment",
        root="food life",
        action="book pay",
        channel="scan card",
        price=70,
        nouns="hotpot,sushi,steak,dim sum,tasting menu,oysters,barbecue,ramen,table for two,tapas,crab season,"
        "truffle,chef counter,wine pairing",
        queries="火锅,订位,日料,烤肉,必吃榜",
    ),
    Group(
        name="tea",
        loadings={"youth": 1.12, "gourmet": 0.9},
        category="dining groceries",
        root="food market",
        action="order share",
        channel="mini-program scan",
        price=28,
        nouns="milk tea,boba,cheese foam,fruit tea,taro ball,matcha,iced lemon,latte,brown sugar,cold brew,"
        "mango sago,jasmine,oat milk,waffle",
        queries="奶茶,第二杯半价,冷萃,抹茶,珍珠",
    ),
    Group(
        name="baby",
        loadings={"family": 1.5},
        category="shopping health education",
        root="market life",
        action="browse book",
        channel="app card",
        price=110,
        nouns="nappies,formula,picture book,stroller,toy blocks,vaccine slot,baby wipes,crib,feeding bottle,"
        "play gym,nursery,teether,rain boots,swim class",
        queries="奶粉,尿不湿,早教,绘本,疫苗",
    ),
    Group(
        name="fitness",
        loadings={"sport": 1.4},
        category="health entertainment",
        root="life play",
        action="check-in book",
        channel="subscription scan",
        price=75,
        nouns="gym pass,yoga,protein bar,running shoes,spin class,boxing,badminton,heart strap,dumbbell,"
        "stretching,pool lane,marathon,kettlebell,shaker",
        queries="健身房,瑜伽,跑步,羽毛球,蛋白粉",
    ),
    Group(
        name="outdoor",
        loadings={"sport": 0.78, "nature": 1.23},
        category="travel shopping",
        root="go green",
        action="browse share",
        channel="app scan",
        price=110,
        nouns="tent,hiking boots,trail map,camp stove,kayak,bird guide,sleeping bag,climbing rope,picnic mat,"
        "lantern,fishing rod,bike rental,thermos,ridge walk",
        queries="露营,徒步,骑行,帐篷,观鸟",
    ),
    Group(
        name="holiday",
        loadings={"wealth": 1.01, "nature": 0.56},
        category="travel finance",
        root="go play",
        action="book browse",
        channel="app card",
        price=90,
        nouns="hotel night,flight,visa slot,island tour,luggage,museum,roaming pack,hot spring,sleeper train,"
        "homestay,travel plug,city break,old town,cruise",
        queries="机票,酒店,签证,自由行,温泉",
    ),
    Group(
        name="courses",
        loadings={"learning": 1.3, "commute": 0.7},
        category="education digital",
        root="learn me",
        action="open check-in",
        channel="subscription app",
        price=110,
        nouns="vocabulary,lecture,exam prep,notebook,audio course,python class,library,essay,dictionary,podcast,"
        "grammar,mock test,reading club,fountain pen",
        queries="考研,单词,网课,读书会,编程入门",
    ),
    Group(
        name="beauty",
        loadings={"youth": 1.0, "wealth": 0.6},
        category="shopping health",
        root="market life",
        action="browse share",
        channel="app mini-program",
        price=140,
        nouns="lipstick,face mask,serum,manicure,haircut,sunscreen,eye cream,lashes,hair dye,facial,foundation,"
        "nail art,toner,blush",
        queries="口红,面膜,美甲,防晒,发型",
    ),
    Group(
        name="gadgets",
        loadings={"play": 1.23, "learning": 0.67},
        category="digital shopping",
        root="market play",
        action="browse pay",
        channel="card app",
        price=210,
        nouns="earbuds,keyboard,power bank,smart watch,drone,tablet case,memory card,router,camera lens,monitor,"
        "charger,stylus,e-reader,mouse pad",
        queries="耳机,键盘,充电宝,显示器,无人机",
    ),
    Group(
        name="homeware",
        loadings={"family": 0.8, "thrift": 0.6},
        category="home shopping",
        root="market life",
        action="browse order",
        channel="app card",
        price=95,
        nouns="rice cooker,curtain,bed sheet,air fryer,storage box,humidifier,cushion,lamp,baking tray,bath mat,"
        "knife block,plant pot,kettle,rug",
        queries="收纳,空气炸锅,窗帘,台灯,烘焙",
    ),
    Group(
        name="invest",
        loadings={"wealth": 1.01, "learning": 0.78},
        category="finance services",
        root="me learn",
        action="open pay",
        channel="app card",
        price=75,
        nouns="index fund,bond,gold plan,tax form,broker,dividend,pension,stock alert,deposit,annuity,net value,"
        "portfolio,fixed income,exchange rate",
        queries="基金,定投,国债,黄金,理财",
    ),
    Group(
        name="music",
        loadings={"cinephile": 1.12, "youth": 0.67},
        category="shopping digital services",
        root="play life go",
        action="open book",
        channel="subscription app",
        price=80,
        nouns="concert,vinyl,guitar strings,karaoke,festival,live house,album,lyrics,piano lesson,drum kit,"
        "backstage,encore,dj night,opera seat",
        queries="演唱会,歌词,吉他,音乐节,专辑",
    ),
    Group(
        name="desk",
        loadings={"busy": 1.34, "commute": 0.56},
        category="services dining education",
        root="me go food",
        action="pay check-in",
        channel="card mini-program",
        price=40,
        nouns="espresso,co-working,courier rush,dry cleaning,business lunch,slides,name card,energy drink,"
        "neck massage,shirt ironing,late snack,calendar sync,expense claim,desk chair",
        queries="咖啡续命,加班,干洗,会议室,报销",
    ),
    Group(
        name="pets",
        loadings={"nature": 1.23, "family": -0.56},
        category="home health shopping",
        root="life market",
        action="order book",
        channel="app scan",
        price=85,
        nouns="cat litter,dog food,vet visit,scratch post,leash,aquarium,pet bed,grooming,hamster,chew toy,"
        "catnip,bird seed,collar,deworming",
        queries="猫砂,狗粮,宠物医院,驱虫,鱼缸",
    ),
)

EVERYDAY = (
    Group(
        name="breakfast",
        category="dining groceries",
        root="food go",
        action="order pay",
        channel="scan",
        price=9,
        nouns="soy milk,steamed bun,pancake,egg,rice roll,porridge,dough stick,toast",
        queries="早餐,豆浆,包子",
    ),
    Group(
        name="supermarket",
        category="groceries home",
        root="market food",
        action="pay order",
        channel="scan card",
        price=64,
        nouns="vegetables,eggs,milk,rice,tissue,fruit,cooking oil,detergent,soap,pork,bread,salt",
        queries="超市,水果,鸡蛋,大米",
    ),
    Group(
        name="utilities",
        category="services home finance",
        root="life me green",
        action="pay check-in",
        channel="app",
        price=120,
        nouns="electricity,water,gas,heating,broadband,property fee,waste fee,meter",
        queries="电费,水费,燃气",
    ),
    Group(
        name="telecom",
        category="digital services home entertainment",
        root="me life",
        action="pay open",
        channel="app subscription",
        price=50,
        nouns="data pack,phone bill,sim,call minutes,cloud space,number swap,hotspot,sms",
        queries="话费,流量,宽带",
    ),
    Group(
        name="transfer",
        category="finance digital",
        root="me go",
        action="pay share",
        channel="app card",
        price=260,
        nouns="transfer,loan,card repayment,balance,cash out,savings,bill split,gift money,bank card",
        queries="转账,还款,余额",
    ),
    Group(
        name="parcel",
        category="services shopping",
        root="life me green",
        action="open share",
        channel="mini-program",
        price=14,
        nouns="parcel,locker,pickup code,courier,packing,return label,waybill,post office",
        queries="快递,取件码,寄件",
    ),
    Group(
        name="pharmacy",
        category="health services",
        root="life",
        action="book order",
        channel="scan card",
        price=58,
        nouns="cold medicine,vitamins,bandage,clinic,dentist,eye test,thermometer,cough syrup,check-up",
        queries="挂号,药店,感冒药",
    ),
    Group(
        name="weather",
        category="services entertainment digital",
        root="life play green go",
        action="open browse",
        channel="app",
        price=6,
        nouns="weather,air quality,calendar,news,lottery,horoscope,traffic,translate,alarm,map",
        queries="天气,新闻,日历",
    ),
    Group(
        name="office",
        category="services education digital",
        root="learn me life go",
        action="open check-in",
        channel="app",
        price=30,
        nouns="print,scan,social security,residence card,seal,form,tax,photo,meeting,certificate",
        queries="社保,打印,公积金",
    ),
    Group(
        name="corner",
        category="groceries dining entertainment shopping",
        root="market food play",
        action="pay claim",
        channel="scan mini-program",
        price=12,
        nouns="water bottle,cigarettes,batteries,snacks,cola,gum,umbrella,ice cream,lighter,instant noodles,juice",
        queries="便利店,零食,饮料",
    ),
)
GROUPS = THEMES + EVERYDAY


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Every text of one source: T rows in the order of GROUPS, TEXTS[source] of them per group."""

    columns: dict[str, np.ndarray]
    """Per column of COLUMNS[source], an object array of T strings."""
    group_T: np.ndarray
    weight_T: np.ndarray
    """Popularity within the group, adding up to 1 in each."""
    price_T: np.ndarray
    """Amount of a bill, CNY."""
    slot_T: np.ndarray
    """Index into SLOTS."""

    def __len__(self) -> int:
        return len(self.group_T)

    def render(self) -> list[str]:
        """The T texts, columns joined by ': '."""
        return [": ".join(row) for row in zip(*self.columns.values(), strict=True)]


def loadings() -> np.ndarray:
    """How each trait moves each group, float [groups, traits]."""
    return np.array([[group.loadings.get(trait, 0.0) for trait in TRAITS] for group in GROUPS])


@cache
def texts(source: str) -> Texts:
    """Every text of a source; the same in every company, whatever its seed."""
    size = TEXTS[source]
    rng = np.random.default_rng([20260101, SOURCES.index(source)])
    rows = [row for number, group in enumerate(GROUPS) for row in _rows(source, group, _brands(number), rng)]
    columns = {name: np.array([row[i] for row in rows], dtype=object) for i, name in enumerate(COLUMNS[source])}
    weights = [
        np.arange(2.0, size + 2) ** -0.25 if group.loadings else np.arange(1.0, size + 1) ** -1.0 for group in GROUPS
    ]
    prices = [group.price * np.exp(rng.normal(0, 0.6 if group.loadings else 1.3, size)) for group in GROUPS]
    return Texts(
        columns=columns,
        group_T=np.repeat(np.arange(len(GROUPS)), size),
        weight_T=np.concatenate([w / w.sum() for w in weights]),
        price_T=np.round(np.concatenate(prices), 1),
        slot_T=rng.integers(len(SLOTS), size=len(rows)),
    )


def _rows(source: str, group: Group, brands: list[str], rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Distinct texts of one group in one source, most popular first."""
    rows: dict[tuple[str, ...], None] = {}
    nouns, queries = group.nouns.split(","), group.queries.split(",")
    channel = {brand: str(rng.choice(group.channel.split())) for brand in brands}

    def one(words: str | tuple[str, ...] | list[str]) -> str:
        return str(rng.choice(words.split() if isinstance(words, str) else words))

    while len(rows) < TEXTS[source]:
        brand, noun = one(brands), one(nouns)
        if source == "bills":
            kind = rng.random()
            item = one(ITEMS) if kind < 0.5 else noun if kind < 0.75 else f"{noun} {one(MODIFIERS)}"
            rows[brand, one(group.category), item, channel[brand]] = None
        elif source == "mini_program_logs":
            rows[brand if rng.random() < 0.75 else f"{brand} {noun}", one(group.action)] = None
        elif source == "page_paths":
            leaf = noun if rng.random() < 0.4 else brand
            path = ["home", one(group.root), leaf]
            rows[(" > ".join(path if rng.random() < 0.5 else [*path, one(LEAVES)]),)] = None
        else:
            kind = rng.random()
            word = one(queries) if kind < 0.25 else brand if kind < 0.6 else noun
            rows[(word if rng.random() < 0.5 else f"{word} {one(SUFFIXES)}",)] = None
    return list(rows)


@cache
def _all_brands() -> tuple[str, ...]:
    names = [a + b for a in SYLLABLES for b in SYLLABLES if a != b]
    return tuple(name.capitalize() for name in np.random.default_rng(20260101).permutation(names))


def _brands(number: int, size: int = 48) -> list[str]:
    """Names of a group's brands: invented, so that a name alone says nothing."""
    return list(_all_brands()[number * size : (number + 1) * size])
