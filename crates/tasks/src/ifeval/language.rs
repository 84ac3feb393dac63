//! Which of the thirty languages of `IFEval` (and a few neighbours) a text is in: by its script, its letters, and the words that
//! every text of a language is full of.

/// Scripts that one language alone is written in here: first and last character.
const SCRIPTS: [(&str, char, char); 13] = [
    ("bn", '\u{0980}', '\u{09ff}'),
    ("pa", '\u{0a00}', '\u{0a7f}'),
    ("gu", '\u{0a80}', '\u{0aff}'),
    ("ta", '\u{0b80}', '\u{0bff}'),
    ("te", '\u{0c00}', '\u{0c7f}'),
    ("kn", '\u{0c80}', '\u{0cff}'),
    ("ml", '\u{0d00}', '\u{0d7f}'),
    ("th", '\u{0e00}', '\u{0e7f}'),
    ("ko", '\u{ac00}', '\u{d7af}'),
    ("ja", '\u{3040}', '\u{30ff}'),
    ("zh-cn", '\u{4e00}', '\u{9fff}'),
    ("he", '\u{0590}', '\u{05ff}'),
    ("el", '\u{0370}', '\u{03ff}'),
];

/// Frequent words of languages that share a script.
const WORDS: [(&str, Script, &str); 25] = [
    (
        "en",
        Script::Latin,
        "the of and to in is that it for was with as on be at by this have from or are you not but we they his her an which will would there their what so can if about all who your has more when our",
    ),
    (
        "es",
        Script::Latin,
        "de la que el en y los se del las un por con no una su para es al lo como más pero sus le ya este sí porque esta son entre cuando muy sin sobre también hasta hay donde",
    ),
    (
        "pt",
        Script::Latin,
        "de que não do da em um para é com uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou ser quando muito há nos já está eu também só pelo pela até isso são você",
    ),
    (
        "fr",
        Script::Latin,
        "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont la avec aux ou je vous nous cette être comme mais elle on son ces tout c'est",
    ),
    (
        "de",
        Script::Latin,
        "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben nur oder aber vor zur ich wir",
    ),
    (
        "it",
        Script::Latin,
        "di che è la il un a per in una mi sono ho non ma lo ha le si con da come io ti se questo qui ci no del della bene più nel gli anche dei alla cosa perché essere molto delle quando sul",
    ),
    (
        "nl",
        Script::Latin,
        "de het een van en in is dat op te zijn met voor niet die aan er om ook als dan maar bij uit nog naar heeft wordt door over hij ze wat je ik",
    ),
    (
        "sv",
        Script::Latin,
        "och i att det som en på är av för med till den har de inte om ett han men var jag sig från vi så kan när år under också efter eller nu",
    ),
    (
        "fi",
        Script::Latin,
        "ja on ei että se oli hän mutta ovat kun niin myös joka jos tai kuin sen sitä minä olen mitä tämä kanssa voi hänen ole vain siitä nyt jotka mukaan ollut en",
    ),
    (
        "pl",
        Script::Latin,
        "i w na z do nie się że to jest o jak a po co tak za od ale przez być tym dla jego są już tylko może czy było który jej które lub ich przy także",
    ),
    (
        "cs",
        Script::Latin,
        "a v se na je že o s z do i to k ve pro za by ale si po jako od jeho které který jsou byl nebo tak podle jen když",
    ),
    (
        "ro",
        Script::Latin,
        "de și în a la cu o pe care nu este un din se mai pentru că sunt să au fost prin dar sau după ca această lui fi ce al",
    ),
    (
        "tr",
        Script::Latin,
        "ve bir bu da de için ile çok daha olarak gibi en ne var olan kadar sonra ama değil ben o mi her ki olduğu",
    ),
    (
        "id",
        Script::Latin,
        "yang dan di dengan untuk dari ini pada tidak dalam itu adalah ke akan juga sebagai bisa ada mereka atau saya oleh telah kami karena",
    ),
    (
        "sw",
        Script::Latin,
        "na ya wa kwa ni katika za la kama hii cha kuwa pia vya lakini au si yake hiyo watu wake hivyo yao sana ili kila huo wetu baada mtu hadi",
    ),
    (
        "vi",
        Script::Latin,
        "và của là có trong cho không được các một với những người để đã này khi từ đến như về cũng nhiều ra tôi bạn hay vào sẽ thì",
    ),
    (
        "hi",
        Script::Devanagari,
        "के है में की से को का और एक हैं पर यह नहीं कि भी ने तो हो इस लिए था कर जो ही या वह गया करने हम आप",
    ),
    (
        "mr",
        Script::Devanagari,
        "आहे आणि या व तो ते हे आहेत नाही होते केली एक च्या मध्ये साठी मी तर पण करून असे म्हणून आपण काही किंवा त्यांच्या",
    ),
    (
        "ne",
        Script::Devanagari,
        "छ र को मा का हो लाई गर्न भएको यो पनि एक छन् ले गर्ने हरू भने थियो तर यस गरेको हुन्छ के तपाईं हामी",
    ),
    (
        "ru",
        Script::Cyrillic,
        "и в не на что я с он как это по но они к у из за от так же для вы мы то все его бы было или только когда если есть о их чтобы ещё может быть",
    ),
    (
        "uk",
        Script::Cyrillic,
        "і в не на що я з він як це по але вони до у із за від так же для ви ми то всі його було або тільки коли якщо є про їх щоб та також може бути",
    ),
    (
        "bg",
        Script::Cyrillic,
        "и на в да се от за с не е че по ще са това като до при или след има който но ли си така може бъде са този което към",
    ),
    (
        "ar",
        Script::Arabic,
        "في من على أن إلى التي عن مع هذا هو ما لا كان هذه الذي أو بين كل بعد ذلك لم قد كما إن هي عند حيث",
    ),
    (
        "fa",
        Script::Arabic,
        "و در به از که این را با است برای آن یک خود تا کرد بر هم نیز ما می شود باید ها های شده من شما اگر یا",
    ),
    (
        "ur",
        Script::Arabic,
        "کے کی ہے میں اور سے کا کو اس کہ نے پر ہیں یہ ایک بھی تو جو نہیں ہو وہ گیا کر لیے تھا یا آپ ہم",
    ),
];

/// Scripts of several languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Cyrillic,
    Arabic,
    Devanagari,
}

impl Script {
    fn of(c: char) -> Option<Self> {
        match c {
            'a'..='z' | 'A'..='Z' | '\u{00c0}'..='\u{024f}' | '\u{1e00}'..='\u{1eff}' => {
                Some(Self::Latin)
            }
            '\u{0400}'..='\u{052f}' => Some(Self::Cyrillic),
            '\u{0600}'..='\u{06ff}' | '\u{0750}'..='\u{077f}' => Some(Self::Arabic),
            '\u{0900}'..='\u{097f}' => Some(Self::Devanagari),
            _ => None,
        }
    }
}

/// The language of a text as ISO 639-1 writes it (Chinese as `zh-cn`); none where there is no letter.
pub fn detect(text: &str) -> Option<&'static str> {
    let own = SCRIPTS.map(|(code, first, last)| {
        (
            text.chars().filter(|c| (first..=last).contains(c)).count(),
            code,
        )
    });
    let shared = [
        Script::Latin,
        Script::Cyrillic,
        Script::Arabic,
        Script::Devanagari,
    ]
    .map(|script| {
        (
            text.chars()
                .filter(|c| Script::of(*c) == Some(script))
                .count(),
            script,
        )
    });
    let (own_count, code) = own.into_iter().max_by_key(|(count, _)| *count)?;
    let (shared_count, script) = shared.into_iter().max_by_key(|(count, _)| *count)?;
    if own_count == 0 && shared_count == 0 {
        return None;
    }
    // A sign of these scripts is a syllable or a word: it weighs more than a letter.
    if own_count * 2 > shared_count {
        // Japanese is written with Chinese signs between its own.
        let kana = own
            .iter()
            .any(|(count, code)| *code == "ja" && *count * 10 > own_count);
        return Some(if code == "zh-cn" && kana { "ja" } else { code });
    }
    Some(among(text, script))
}

/// The language of a script whose frequent words, and letters of its own, fill most of the text.
fn among(text: &str, script: Script) -> &'static str {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphabetic() && Script::of(c).is_none() && c != '\'')
        .filter(|word| !word.is_empty())
        .collect();
    let candidates = WORDS.iter().filter(|(_, of, _)| *of == script);
    let scored = candidates.map(|(code, _, frequent)| {
        let frequent: Vec<&str> = frequent.split(' ').collect();
        let hits = words.iter().filter(|word| frequent.contains(word)).count();
        (3 * hits + letters(code, &lower), *code)
    });
    // On a tie the one named first: English among Latin ones.
    scored
        .fold((0, default(script)), |best, next| {
            if next.0 > best.0 { next } else { best }
        })
        .1
}

fn default(script: Script) -> &'static str {
    match script {
        Script::Latin => "en",
        Script::Cyrillic => "ru",
        Script::Arabic => "ar",
        Script::Devanagari => "hi",
    }
}

/// Letters that tell a language from its neighbours.
fn letters(code: &str, text: &str) -> usize {
    let own = match code {
        "es" => "ñ¿¡",
        "pt" => "ãõ",
        "fr" => "œêèçûî",
        "de" => "ßäöü",
        "it" => "òìù",
        "sv" => "å",
        "fi" => "äö",
        "pl" => "łąęśżźćń",
        "cs" => "ěřůťď",
        "ro" => "șțăâ",
        "tr" => "ğışİ",
        "vi" => "ạảấầẩậắằẳặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵđơư",
        "uk" => "іїєґ",
        "ru" => "ыэё",
        "bg" => "ъщ",
        "fa" => "گچپژ",
        "ur" => "ٹڈڑںےہ",
        "mr" => "ळ",
        _ => "",
    };
    text.chars().filter(|c| own.contains(*c)).count()
}

#[cfg(test)]
mod tests {
    use super::detect;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn the_languages_of_the_data_set_are_told_apart() {
        for (code, text) in [
            (
                "en",
                "The quick brown fox jumps over the lazy dog, and that is all there is to it.",
            ),
            (
                "es",
                "El perro que vive en la casa de mi abuela es muy grande, pero no muerde.",
            ),
            (
                "pt",
                "O cachorro que mora na casa da minha avó é muito grande, mas não morde.",
            ),
            (
                "fr",
                "Le chien qui habite dans la maison de ma grand-mère est très grand, mais il ne mord pas.",
            ),
            (
                "de",
                "Der Hund, der im Haus meiner Großmutter wohnt, ist sehr groß, aber er beißt nicht.",
            ),
            (
                "it",
                "Il cane che vive nella casa di mia nonna è molto grande, ma non morde.",
            ),
            (
                "fi",
                "Koira, joka asuu isoäitini talossa, on hyvin suuri, mutta se ei pure.",
            ),
            (
                "pl",
                "Pies, który mieszka w domu mojej babci, jest bardzo duży, ale nie gryzie.",
            ),
            (
                "sw",
                "Mbwa anayeishi katika nyumba ya bibi yangu ni mkubwa sana lakini hang'ati watu.",
            ),
            (
                "vi",
                "Con chó sống trong nhà của bà tôi rất lớn nhưng nó không cắn.",
            ),
            (
                "ru",
                "Собака, которая живёт в доме моей бабушки, очень большая, но она не кусается.",
            ),
            (
                "uk",
                "Собака, яка живе в будинку моєї бабусі, дуже велика, але вона не кусається.",
            ),
            (
                "bg",
                "Кучето, което живее в къщата на баба ми, е много голямо, но не хапе.",
            ),
            ("ar", "الكلب الذي يعيش في بيت جدتي كبير جدا لكنه لا يعض."),
            (
                "fa",
                "سگی که در خانه مادربزرگم زندگی می‌کند خیلی بزرگ است اما گاز نمی‌گیرد.",
            ),
            (
                "ur",
                "میری دادی کے گھر میں رہنے والا کتا بہت بڑا ہے لیکن وہ نہیں کاٹتا۔",
            ),
            (
                "hi",
                "मेरी दादी के घर में रहने वाला कुत्ता बहुत बड़ा है लेकिन वह काटता नहीं है।",
            ),
            (
                "mr",
                "माझ्या आजीच्या घरात राहणारा कुत्रा खूप मोठा आहे पण तो चावत नाही.",
            ),
            (
                "ne",
                "मेरो हजुरआमाको घरमा बस्ने कुकुर धेरै ठूलो छ तर यो टोक्दैन र यो राम्रो हो।",
            ),
            ("bn", "আমার দাদীর বাড়িতে থাকা কুকুরটি খুব বড়।"),
            ("pa", "ਮੇਰੀ ਦਾਦੀ ਦੇ ਘਰ ਵਿੱਚ ਰਹਿਣ ਵਾਲਾ ਕੁੱਤਾ ਬਹੁਤ ਵੱਡਾ ਹੈ।"),
            ("gu", "મારી દાદીના ઘરમાં રહેતો કૂતરો ખૂબ મોટો છે."),
            ("ta", "என் பாட்டியின் வீட்டில் வாழும் நாய் மிகவும் பெரியது."),
            ("te", "మా అమ్మమ్మ ఇంట్లో నివసించే కుక్క చాలా పెద్దది."),
            ("kn", "ನನ್ನ ಅಜ್ಜಿಯ ಮನೆಯಲ್ಲಿ ವಾಸಿಸುವ ನಾಯಿ ತುಂಬಾ ದೊಡ್ಡದು."),
            ("ml", "എന്റെ മുത്തശ്ശിയുടെ വീട്ടിൽ താമസിക്കുന്ന നായ വളരെ വലുതാണ്."),
            ("th", "สุนัขที่อาศัยอยู่ในบ้านคุณยายของฉันตัวใหญ่มาก"),
            (
                "ko",
                "우리 할머니 집에 사는 개는 아주 크지만 물지 않습니다.",
            ),
            (
                "ja",
                "祖母の家に住んでいる犬はとても大きいですが、噛みません。",
            ),
            ("zh-cn", "住在我奶奶家的狗很大，但是它不咬人。"),
            ("he", "הכלב שגר בבית של סבתא שלי גדול מאוד אבל הוא לא נושך."),
        ] {
            assert_eq!(detect(text), Some(code), "{text}");
        }
        assert_eq!(detect("123 ***"), None);
    }
}
