"""Names and addresses in scripts without capitals: what stands around a name, and how a street is written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunedesk.core.personal_data.spans import Found, holds, taken

_SURNAMES_ZH = (
    "王李张張刘劉陈陳杨楊黄黃赵趙吴吳周徐孙孫马馬朱胡郭何林高罗羅郑鄭梁谢謝宋唐许許韩韓冯馮邓鄧曹彭曾萧蕭田董潘袁蔡蒋蔣余于杜叶葉程魏苏蘇"
    "吕呂丁任卢盧姚沈钟鐘姜崔谭譚陆陸范汪廖石金贾賈夏韦韋方白邹鄒孟熊秦邱江尹薛闫阎段雷侯龙龍史陶贺賀顾顧毛郝龚龔邵万萬钱錢严嚴武戴莫孔向汤湯"
)
OTHER_NAMES = (
    (("मेरा नाम", "मेरा पूरा नाम"),
     re.compile(r"मेरा (?:पूरा )?नाम (?P<name>[\u0900-\u097f]+(?: [\u0900-\u097f]+){0,2}?)(?= (?:है|हे|हैं|और)|[,।.!]|$)")),
    (("我叫", "名字", "姓名"),
     re.compile(rf"(?:我叫|我的名字(?:是|叫)|姓名[是为為：:]\s?)(?P<name>[{_SURNAMES_ZH}][\u4e00-\u9fff]{{1,2}})(?![\u4e00-\u9fff]{{3}})")),
    (("名前は", "と申し"),
     re.compile(r"(?:名前は)(?P<name>[\u4e00-\u9fff\u30a1-\u30fa\u30fc々]{2,8})(?=です|と|、|。|$)")),
    (("と申し",), re.compile(r"(?P<name>[\u4e00-\u9fff々]{2,6})と申し")),
    (("اسمي", "إسمي"),
     re.compile(r"(?:اسمي|إسمي)(?: هو)? (?P<name>[\u0621-\u064a]{2,}(?: (?!و)[\u0621-\u064a]{2,})?)")),
    (("이름은",), re.compile(r"이름은 (?P<name>[가-힣]{2,4}?)(?=입니다|이에요|예요|이고|이야|[.,!\s]|$)")),
)  # fmt: skip
"""Parts one of which stands in a text that says somebody's name, and how it is said."""
OTHER_ADDRESSES = (
    re.compile(
        r"(?:[\u4e00-\u9fff]{2,8}?[省市区區县縣]){0,4}[\u4e00-\u9fff]{1,8}(?:路|街|大道|巷|弄)\d{1,5}[号號](?:\d{1,4}[室楼樓])?"
    ),
    re.compile(
        r"[\u4e00-\u9fff]{2,3}[都道府県](?:[\u4e00-\u9fff\u3041-\u30ff]{1,8}[市区町村郡]){1,3}[\u4e00-\u9fff\u3041-\u30ff]{0,10}"
        r"\d{1,4}(?:丁目|番地?|号|-\d{1,4}){0,3}(?:-?\d{1,4})*"
    ),
    re.compile(
        r"(?:[가-힣]{2,8}(?:특별시|광역시|시|도) )?[가-힣]{1,6}(?:구|군|시) [가-힣\d]{1,10}(?:로|길) \d{1,4}"
        r"(?:-\d{1,4})?"
    ),
)
ADDRESS_PARTS = ("路", "街", "道", "巷", "弄", "都", "府", "県", "로 ", "길 ")


def other_names(text: str) -> Iterator[Found]:
    """Yield the names that people say are theirs in Hindi, Chinese, Japanese, Arabic and Korean."""
    for parts, pattern in OTHER_NAMES:
        if holds(text, parts):
            for match in pattern.finditer(text):
                yield taken(match, "name", 0.85, "name")


def other_addresses(text: str) -> Iterator[Found]:
    """Yield streets with a house number in China, Japan and Korea."""
    if holds(text, ADDRESS_PARTS):
        for pattern in OTHER_ADDRESSES:
            for match in pattern.finditer(text):
                yield taken(match, "address", 0.85)
